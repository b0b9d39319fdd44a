"""The web application: pages, REST API, records. Imports `ml` only where a film is answered."""
