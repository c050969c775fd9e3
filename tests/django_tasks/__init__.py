"""Django's own tasks on our runtime, with `django.tasks` or the package `django-tasks`."""
