"""The web application: routes, the guard, pictures, serving."""
