import { expect, test } from 'bun:test'
import { observe, parseStat, residentOf, type Stat, useOf } from './observe.ts'

const LINE =
  '4242 (a (bad) name) S 17 4242 4242 0 -1 4194304 1 2 3 4 150 50 30 20 20 0 9 0 12345 99999999 2048 18446744073709551615 1 1'

test('a line of /proc is read past a name with spaces and parentheses', () => {
  expect(parseStat(LINE)).toEqual({ parent: 17, ticks: 200, endedChildrenTicks: 50 })
})

test('a process that has just gone is no process', () => {
  expect(parseStat('')).toBeUndefined()
  expect(parseStat('17 (half a li')).toBeUndefined()
})

const stats = (rows: Record<number, [parent: number, ticks: number, ended?: number]>): Map<number, Stat> =>
  new Map(
    Object.entries(rows).map(([pid, [parent, ticks, endedChildrenTicks = 0]]) => [
      Number(pid),
      { parent, ticks, endedChildrenTicks },
    ]),
  )

test('a process is charged for all of its descendants, those that ended among them, and for nobody else’s', () => {
  const all = stats({ 10: [1, 100, 7], 11: [10, 50], 12: [11, 25], 20: [1, 1000] })
  expect(useOf(10, all, (pid) => pid)).toEqual({ cpuSeconds: 1.82, residentBytes: 33 })
})

test('a process that is gone has used nothing', () => {
  expect(useOf(99, stats({}), () => undefined)).toEqual({ cpuSeconds: 0, residentBytes: 0 })
})

test('only what was used between begin and end counts', () => {
  let ticks = 500
  const processes = [{ name: 'a', role: 'service' as const, pid: 10 }]
  const observation = observe(processes, 'measured', () => stats({ 10: [1, ticks] }))
  ticks = 600
  observation.begin()
  ticks = 850
  observation.end()
  ticks = 9000
  expect(observation.stop()).toMatchObject([{ name: 'a', role: 'service', cpuSeconds: 2.5 }])
})

test('memory is observed before the measurement only if that is asked for', async () => {
  const child = Bun.spawn(['sleep', '60'])
  const processes = [{ name: 'child', role: 'service' as const, pid: child.pid }]
  const [all, measured] = (['all', 'measured'] as const).map((memory) => observe(processes, memory))
  await Bun.sleep(600)
  child.kill()
  await child.exited
  const highest = [all, measured].map((observation) => {
    observation?.begin()
    observation?.end()
    return observation?.stop()[0]?.residentMaxBytes
  })
  expect(highest).toEqual([expect.any(Number), 0])
  expect(highest[0]).toBeGreaterThan(0)
})

test('growth is the difference of two fifths, of which the first is none', () => {
  expect(residentOf([900, 900, 100, 100, 150, 150, 170, 170, 200, 300])).toEqual({
    residentMeanBytes: 314,
    residentMaxBytes: 900,
    residentEarlyBytes: 100,
    residentLateBytes: 250,
  })
})

test('of no samples there is no memory, and of one it is the same all over', () => {
  expect(residentOf([]).residentMaxBytes).toBe(0)
  expect(residentOf([5])).toEqual({
    residentMeanBytes: 5,
    residentMaxBytes: 5,
    residentEarlyBytes: 5,
    residentLateBytes: 5,
  })
})
