"""The web application: pages, REST API, records. Imports `ml` only where an image is answered."""
