import { useEffect, useRef } from 'preact/hooks'
import UPlot from 'uplot'
import { count, timeOf } from './words.ts'

/** Values over time. */

const HEIGHT_PX = 180

/** At least so much time is drawn. */
const LEAST_SECONDS = 60

/** Between two marks of the axis of time. */
const SECONDS = [10, 30, 60, 300, 600, 900, 1_800, 3_600]

const clock = (seconds: number): string => timeOf(new Date(seconds * 1000).toISOString()).slice(0, -4)

interface Series {
  name: string
  tone: 'good' | 'bad' | 'warn' | 'calm'
  /** null: not known. */
  values: readonly (number | null)[]
}

export function Chart({
  label,
  times,
  series,
}: {
  label: string
  /** Seconds since the epoch, ascending. */
  times: readonly number[]
  series: readonly Series[]
}) {
  const box = useRef<HTMLDivElement>(null)
  const plot = useRef<UPlot | undefined>(undefined)
  const data = useRef<UPlot.AlignedData>([[]])
  data.current = [[...times], ...series.map(({ values }) => [...values])]
  const isEmpty = times.length === 0
  useEffect(() => {
    const element = box.current
    if (element === null || isEmpty) return
    const colour = (name: string): string => getComputedStyle(element).getPropertyValue(name)
    const draw = (): void => {
      plot.current?.destroy()
      const axis = {
        stroke: colour('--soft'),
        grid: { stroke: colour('--line'), width: 1 },
        ticks: { stroke: colour('--line'), width: 1 },
      }
      plot.current = new UPlot(
        {
          width: element.clientWidth,
          height: HEIGHT_PX,
          legend: { show: false },
          // The last mark of the axis is centred below its tick.
          padding: [null, 30, null, null],
          cursor: { show: false },
          axes: [
            { ...axis, incrs: SECONDS, values: (_, ticks) => ticks.map(clock) },
            { ...axis, size: 56, values: (_, ticks) => ticks.map((tick) => count(tick)) },
          ],
          scales: {
            x: { time: true, range: (_, first, last) => [Math.min(first, last - LEAST_SECONDS), last] },
            y: { range: (_, least, most) => [Math.min(0, least), Math.max(1, most * 1.1)] },
          },
          series: [
            {},
            ...series.map(({ name, tone }) => ({
              label: name,
              stroke: colour(`--${tone}`),
              width: 2,
              // A single value has no line.
              points: { show: (_: UPlot, __: number, first: number, last: number) => last - first < 1 },
            })),
          ],
        },
        data.current,
        element,
      )
    }
    draw()
    const observer = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: HEIGHT_PX }))
    observer.observe(element)
    const theme = matchMedia('(prefers-color-scheme: dark)')
    theme.addEventListener('change', draw)
    return () => {
      observer.disconnect()
      theme.removeEventListener('change', draw)
      plot.current?.destroy()
    }
  }, [isEmpty])
  useEffect(() => plot.current?.setData(data.current), [times.length, times.at(-1)])
  const last = series.map(({ name, values }) => `${name} ${count(values.at(-1) ?? 0)}`).join(', ')
  return (
    <div>
      <p class="hint">{label}</p>
      <div ref={box} class="chart" role="img" aria-label={`${label}. Now: ${last}`} />
      <p class="legend">
        {series.map(({ name, tone }) => (
          <span key={name} class={`key ${tone}`}>
            {name}
          </span>
        ))}
      </p>
    </div>
  )
}
