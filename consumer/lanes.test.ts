import { describe, expect, test } from 'bun:test'
import fc from 'fast-check'
import { settled } from '../shared/testing/settled.ts'
import { until } from '../shared/testing/until.ts'
import { Lanes, Slots, Together } from './lanes.ts'

type Run = () => Promise<void> | undefined

/** A call in a lane; in none when that is undefined. */
interface Task {
  lane: string | undefined
  run: Run
}

/** Lanes, and how a call is submitted to them. */
function createLanes() {
  const lanes = new Lanes<Task>(
    ({ lane }) => lane,
    ({ run }) => run(),
  )
  return (lane: string | undefined, run: Run): void => lanes.submit({ lane, run })
}

/** A call that the test ends. */
function createCall() {
  const { promise, resolve } = Promise.withResolvers<void>()
  const call = {
    begun: 0,
    end: resolve,
    run() {
      call.begun++
      return promise
    },
  }
  return call
}

describe('lanes', () => {
  test('tasks of one lane run one after the other, in order', async () => {
    const submit = createLanes()
    const [first, second] = [createCall(), createCall()]
    submit('a', first.run)
    submit('a', second.run)
    expect([first.begun, second.begun]).toEqual([1, 0])
    first.end()
    await until(() => second.begun === 1)
    second.end()
  })

  test('a lane that waits holds up no other, nor what is ordered with nothing', () => {
    const submit = createLanes()
    submit('a', createCall().run)
    const [other, unordered] = [createCall(), createCall()]
    submit('b', other.run)
    submit(undefined, unordered.run)
    submit(undefined, unordered.run)
    expect([other.begun, unordered.begun]).toEqual([1, 2])
  })

  test('a task that is done at once lets the next begin at once', () => {
    const done: number[] = []
    const submit = createLanes()
    for (let number = 0; number < 3; number++)
      submit('a', () => {
        done.push(number)
        return undefined
      })
    expect(done).toEqual([0, 1, 2])
  })

  test('order holds in every lane, whichever tasks take time', async () => {
    const task = fc.record({ lane: fc.constantFrom('a', 'b', 'c', undefined), ticks: fc.integer({ min: 0, max: 3 }) })
    await fc.assert(
      fc.asyncProperty(fc.array(task, { maxLength: 60 }), async (tasks) => {
        const submit = createLanes()
        const begun: number[] = []
        const running = new Set<string>()
        let ended = 0
        for (const [number, { lane, ticks }] of tasks.entries())
          submit(lane, () => {
            if (lane !== undefined) expect(running.has(lane)).toBe(false)
            begun.push(number)
            if (ticks === 0) {
              ended++
              return undefined
            }
            if (lane !== undefined) running.add(lane)
            return (async () => {
              for (let tick = 0; tick < ticks; tick++) await Promise.resolve()
              if (lane !== undefined) running.delete(lane)
              ended++
            })()
          })
        await until(() => ended === tasks.length)
        for (const name of ['a', 'b', 'c']) {
          const ofLane = begun.filter((number) => tasks[number]?.lane === name)
          expect(ofLane).toEqual(ofLane.toSorted((a, b) => a - b))
        }
      }),
    )
  })

  test('a lane that is never empty keeps its order for thousands of tasks, and is usable again after', async () => {
    const submit = createLanes()
    const order: number[] = []
    const task = (number: number) => async () => {
      order.push(number)
      await Promise.resolve()
      // A follower is there before the lane is empty.
      if (number + 100 < 5_000) submit('a', task(number + 100))
    }
    for (let number = 0; number < 100; number++) submit('a', task(number))
    await until(() => order.length === 5_000)
    expect(order).toEqual(Array.from({ length: 5_000 }, (_, number) => number))
    const late = createCall()
    await until(() => {
      if (late.begun === 0) submit('a', late.run)
      return late.begun === 1
    })
  })
})

describe('the slots', () => {
  test('lets in as many as its limit, and the next when one leaves', async () => {
    const slots = new Slots(2)
    const calls = [createCall(), createCall(), createCall()]
    for (const { run } of calls) void slots.run(run)
    expect(calls.map(({ begun }) => begun)).toEqual([1, 1, 0])
    expect(slots.inside).toBe(2)
    calls[0]?.end()
    await until(() => calls[2]?.begun === 1)
    expect(slots.inside).toBe(2)
    for (const { end } of calls) end()
    await until(() => slots.inside === 0)
  })

  test('whoever has many calls leaves places for others, who have theirs before', async () => {
    const slots = new Slots(8, () => true)
    const call = (name: string) => {
      const made = createCall()
      void slots.run(made.run, name)
      return made
    }
    const begunOf = (calls: { begun: number }[]) => calls.reduce((sum, { begun }) => sum + begun, 0)
    const many = Array.from({ length: 20 }, () => call('a'))
    expect(begunOf(many)).toBe(4)
    const others = Array.from({ length: 4 }, () => call('b'))
    const third = [call('c'), call('c')]
    expect([begunOf(others), begunOf(third)]).toEqual([2, 1])
    many[0]?.end()
    await until(() => third[1]?.begun === 1)
    expect([begunOf(many), begunOf(others)]).toEqual([4, 2])
    for (const { end } of [...many, ...others, ...third]) end()
    await until(() => begunOf([...many, ...others, ...third]) === 26 && slots.inside === 0)
  })

  test('whoever is alone has all places', async () => {
    let hasOthers = false
    const slots = new Slots(4, () => hasOthers)
    const calls = Array.from({ length: 8 }, createCall)
    for (const { run } of calls.slice(0, 6)) void slots.run(run, 'a')
    expect(slots.inside).toBe(4)
    hasOthers = true
    void slots.run(calls[6]?.run ?? createCall().run, 'b')
    calls[0]?.end()
    await until(() => calls[6]?.begun === 1)
    expect(calls[4]?.begun).toBe(0)
    for (const { end } of calls) end()
    await until(() => slots.inside === 0)
  })

  test('what is said to be free can be taken, and no more', () => {
    const name = fc.constantFrom('a', 'b', 'c')
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 20 }),
        fc.boolean(),
        fc.array(name),
        name,
        (limit, shared, held, caller) => {
          const slots = new Slots(limit, () => shared)
          const taken = held.flatMap((one) => slots.take(one) ?? [])
          const free = slots.free(caller)
          const more = Array.from({ length: limit + 1 }, () => slots.take(caller)).filter((one) => one !== undefined)
          expect(more.length).toBe(free)
          for (const giveBack of [...taken, ...more, ...more]) giveBack()
          expect(slots.inside).toBe(0)
        },
      ),
    )
  })

  test('who waits gets a place in turn, unless the wait ends before', async () => {
    const slots = new Slots(1, () => true)
    const giveBack = slots.take('a')
    const got: string[] = []
    const wait = (name: string, end: Promise<unknown>) =>
      slots.wait(name, end).then((taken) => {
        got.push(taken === undefined ? `${name} left` : name)
        return taken
      })
    const leaving = Promise.withResolvers<void>()
    const never = new Promise(() => undefined)
    const others = [wait('a', never), wait('a', leaving.promise), wait('b', leaving.promise), wait('c', never)]
    // Nobody overtakes who waits.
    expect(slots.take('c')).toBeUndefined()
    leaving.resolve()
    await Promise.all([others[1], others[2]])
    expect(got).toEqual(['a left', 'b left'])
    giveBack?.()
    const first = await Promise.race([others[0], others[3]])
    first?.()
    for (const one of await Promise.all([others[0], others[3]])) one?.()
    expect(got.toSorted()).toEqual(['a', 'a left', 'b left', 'c'])
    expect(slots.inside).toBe(0)
    expect(await slots.wait('b', Promise.resolve())).toBeDefined()
  })

  test('a call that returns at once takes no place and returns its result at once', () => {
    const slots = new Slots(1)
    expect(slots.run(() => 5)).toBe(5)
    expect(slots.inside).toBe(0)
  })

  test('a failing call gives its place back, and its failure to who called', async () => {
    const slots = new Slots(1)
    expect(await settled(slots.run(() => Promise.reject(new Error('no'))))).toThrow('no')
    await until(() => slots.inside === 0)
  })

  test('nobody is forgotten when those before return at once or throw', async () => {
    const kind = fc.constantFrom('waits', 'returns', 'rejects', 'throws')
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 3 }), fc.array(kind, { maxLength: 30 }), async (limit, kinds) => {
        const slots = new Slots(limit)
        const blockers = Array.from({ length: limit }, createCall)
        for (const { run } of blockers) void slots.run(run)
        let most = 0
        const calls = kinds.map((one) =>
          Promise.resolve(
            slots.run(async () => {
              most = Math.max(most, slots.inside)
              await Promise.resolve()
              if (one === 'rejects') throw new Error('rejected')
            }),
          ).catch(() => {}),
        )
        const immediate = kinds.map((one) =>
          Promise.resolve(
            slots.run((): undefined => {
              if (one === 'throws') throw new Error('thrown')
            }),
          ).catch(() => {}),
        )
        for (const { end } of blockers) end()
        let through = false
        void Promise.all([...calls, ...immediate]).then(() => {
          through = true
        })
        await until(() => through, { what: 'everybody to be let through' })
        await until(() => slots.inside === 0)
        expect(most).toBeLessThanOrEqual(limit)
      }),
    )
  })

  test('one that throws before it could take its place passes it on', async () => {
    const slots = new Slots(1)
    const [blocker, last] = [createCall(), createCall()]
    void slots.run(blocker.run)
    const thrown = Promise.resolve(
      slots.run((): undefined => {
        throw new Error('thrown')
      }),
    )
    void slots.run(last.run)
    blocker.end()
    expect(await settled(thrown)).toThrow('thrown')
    await until(() => last.begun === 1, { what: 'the last to be let in' })
    last.end()
  })
})

describe('Together', () => {
  test('what comes while a call waits for its turn is made part of it, and each has the result of its own', async () => {
    const calls: string[][] = []
    const turns: PromiseWithResolvers<void>[] = []
    const together = new Together(new Slots(1), async (items: readonly string[]) => {
      calls.push([...items])
      const turn = Promise.withResolvers<void>()
      turns.push(turn)
      await turn.promise
      return calls.length
    })
    const first = [together.run(['a']), together.run(['b'])]
    await until(() => turns.length === 1)
    const second = [together.run(['c']), together.run(['d', 'e'])]
    turns[0]?.resolve()
    expect(await Promise.all(first)).toEqual([1, 1])
    await until(() => turns.length === 2)
    const third = together.run(['f'])
    turns[1]?.reject(new Error('refused'))
    expect((await Promise.allSettled(second)).map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    await until(() => turns.length === 3)
    turns[2]?.resolve()
    expect(await third).toBe(3)
    expect(calls).toEqual([['a', 'b'], ['c', 'd', 'e'], ['f']])
  })

  test('in every other attempt an item is called for alone', async () => {
    const calls: string[][] = []
    const together = new Together(new Slots(1), async (items: readonly string[]) => void calls.push([...items]))
    await Promise.all([together.attempt('a', 1), together.attempt('b', 1)])
    await Promise.all([together.attempt('a', 2), together.attempt('b', 2)])
    expect(calls).toEqual([['a', 'b'], ['a'], ['b']])
  })
})

test('with fewer places than callers, those that have as few inside are let in by turns', async () => {
  const slots = new Slots(1, () => true)
  const begun: string[] = []
  const call = (name: string) =>
    slots.run(async () => {
      begun.push(name)
    }, name)
  await Promise.all(['a', 'a', 'a', 'b', 'b', 'c'].map(call))
  expect(begun).toEqual(['a', 'a', 'b', 'c', 'a', 'b'])
})
