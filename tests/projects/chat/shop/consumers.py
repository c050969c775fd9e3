from channels.generic.websocket import AsyncWebsocketConsumer

from shop.models import Book


class ChatConsumer(AsyncWebsocketConsumer):
    """Answers each message with the same, signed."""

    async def receive(self, text_data=None, bytes_data=None):
        books = await Book.objects.acount()
        await self.send(f"{text_data}, says {self.scope['user']} among {books} books")
