/** A handler: turns `order.placed` into `order.priced`. Run it with `bun run dev --handlers docs/examples/handler.ts`. */
import { defineHandler, TerminalError, Type } from 'kafkatrace'

const PRICES: Readonly<Record<string, number>> = { pen: 2, book: 12 }

export const handlers = [
  defineHandler({
    type: 'order.placed',
    version: '1',
    schema: Type.Object({ item: Type.String(), count: Type.Integer({ minimum: 1 }) }),
    handle({ item, count }) {
      const price = PRICES[item]
      // No retry finds a price: the event goes to the dead-letter topic at once.
      if (price === undefined) throw new TerminalError(`no price for ${item}`)
      return { type: 'order.priced', data: { item, count, total: count * price } }
    },
  }),
]
