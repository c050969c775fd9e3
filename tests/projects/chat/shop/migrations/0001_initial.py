from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            name="Author",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("name", models.CharField(max_length=100)),
            ],
        ),
        migrations.CreateModel(
            name="Book",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("title", models.CharField(max_length=100)),
                ("price", models.DecimalField(max_digits=6, decimal_places=2)),
                ("blurb", models.TextField(blank=True)),
                (
                    "author",
                    models.ForeignKey("shop.author", models.CASCADE, related_name="books"),
                ),
            ],
        ),
    ]
