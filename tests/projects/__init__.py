"""Django projects and apps that tests of several folders start or install."""
