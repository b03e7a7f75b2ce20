from hotpix_registry.cli import main

main()
