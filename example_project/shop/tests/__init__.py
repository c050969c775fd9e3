"""Tests of the shop's tasks: by pytest (`test_tasks`) and by Django's test case (`test_cases`)."""
