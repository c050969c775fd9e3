from dataclasses import dataclass

from django.http import HttpRequest, HttpResponse
from strawberry.django.views import AsyncGraphQLView


@dataclass
class ShopContext:
    request: HttpRequest
    response: HttpResponse
    currency: str


class ShopView(AsyncGraphQLView):
    async def get_context(self, request: HttpRequest, response: HttpResponse) -> ShopContext:
        return ShopContext(request, response, request.headers.get("X-Currency", "EUR"))
