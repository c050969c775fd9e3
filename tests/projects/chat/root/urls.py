from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import path
from django.views.generic import TemplateView

from shop.schema import schema
from shop.views import ShopView

urlpatterns = [
    path("", TemplateView.as_view(template_name="shop/index.html")),
    path("api/", ShopView.as_view(schema=schema)),
    *staticfiles_urlpatterns(),
]
