from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('shop', '0001_initial'),
    ]

    operations = [
        migrations.CreateModel(
            name='Process',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=40)),
                ('place', models.CharField(help_text='Host and process id.', max_length=255)),
                ('started_at', models.DateTimeField()),
            ],
            options={
                'verbose_name_plural': 'processes',
                'ordering': ('-started_at',),
            },
        ),
    ]
