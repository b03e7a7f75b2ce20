-- The roles of a registry on PostgreSQL, each with the least that it needs. Run it as a superuser, on a new
-- server and after every `hotpix-registry db upgrade`; run again it changes nothing:
--
--     psql -v ON_ERROR_STOP=1 -v database=hotpix -f roles.sql
--
-- hotpix_owner    owns the tables, and is used for `db upgrade` alone
-- hotpix_writer   the service, and whoever ingests, builds and certifies
-- hotpix_reader   look-ups, pipelines, backups, `verify`, replicas; of tokens it sees the digests, as all do
--
-- They log in when you give them passwords: \password hotpix_writer

\set ON_ERROR_STOP on
\if :{?database}
\else
  \set database hotpix
\endif

SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['hotpix_owner', 'hotpix_writer', 'hotpix_reader'])
  AS wanted (name) WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec

SELECT format('CREATE DATABASE %I OWNER hotpix_owner ENCODING ''UTF8'' TEMPLATE template0', :'database')
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') \gexec

\connect :"database"

ALTER DATABASE :"database" OWNER TO hotpix_owner;
REVOKE ALL ON DATABASE :"database" FROM PUBLIC;
GRANT CONNECT ON DATABASE :"database" TO hotpix_writer, hotpix_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE, CREATE ON SCHEMA public TO hotpix_owner;
GRANT USAGE ON SCHEMA public TO hotpix_writer, hotpix_reader;

BEGIN;

-- rows are read and put in
GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA public TO hotpix_writer;
GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO hotpix_writer, hotpix_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO hotpix_reader;

-- of what was written only `closed_tx` is ever set; files that are no darks are remembered, and forgotten
SELECT format('GRANT UPDATE (closed_tx) ON %I TO hotpix_writer', table_name) FROM information_schema.columns
  WHERE table_schema = 'public' AND column_name = 'closed_tx' \gexec
SELECT format('GRANT DELETE ON %I TO hotpix_writer', table_name) FROM information_schema.tables
  WHERE table_schema = 'public' AND table_name = 'passed_over' \gexec

-- the schema's version is the owner's
SELECT format('REVOKE INSERT, UPDATE, DELETE ON %I FROM hotpix_writer', table_name)
  FROM information_schema.tables WHERE table_schema = 'public' AND table_name = 'alembic_version' \gexec

COMMIT;
