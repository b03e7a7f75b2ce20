"""The methods of class Registry, by noun; each module is one part of the facade."""
