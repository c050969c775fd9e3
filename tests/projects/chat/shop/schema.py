import datetime as dt
from typing import NewType

import strawberry
import strawberry_django
from strawberry.extensions import QueryDepthLimiter
from strawberry.schema.config import StrawberryConfig
from strawberry_django.optimizer import DjangoOptimizerExtension

from shop import models

Day = NewType("Day", dt.date)


@strawberry_django.type(models.Author)
class Author:
    name: strawberry.auto


@strawberry_django.type(models.Book)
class Book:
    title: strawberry.auto
    author: Author

    @strawberry_django.field(only=["price"])
    def price(self, info: strawberry.Info) -> str:
        return f"{self.price:.2f} {info.context.currency}"


@strawberry.type
class ShopQuery:
    books: list[Book] = strawberry_django.field()

    @strawberry.field
    def opened_on(self) -> Day:
        return Day(dt.date(2026, 1, 16))


@strawberry.type
class ShopMutation:
    @strawberry.mutation
    async def rename_book(self, id: strawberry.ID, title: str) -> bool:
        return await models.Book.objects.filter(pk=id).aupdate(title=title) == 1


schema = strawberry.Schema(
    query=ShopQuery,
    mutation=ShopMutation,
    extensions=[DjangoOptimizerExtension, lambda: QueryDepthLimiter(max_depth=10)],
    config=StrawberryConfig(
        scalar_map={Day: strawberry.scalar(name="Day", serialize=lambda day: day.isoformat())}
    ),
)
