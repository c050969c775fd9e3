import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "root.settings")

from channels.auth import AuthMiddlewareStack
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.core.asgi import get_asgi_application
from django.urls import path

django_application = get_asgi_application()

from shop.consumers import ChatConsumer

routes = URLRouter([path("chat/", ChatConsumer.as_asgi())])
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(routes)),
    }
)
