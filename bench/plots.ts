/** Plots as SVG on a light card, so that they are readable on any background. Pure functions from numbers to text. */

const WIDTH = 760
const MARGIN = { top: 56, right: 28, bottom: 52, left: 76 }
const FONT = 'font-family="system-ui, sans-serif"'
const INK = '#1f2430'
const FAINT = '#6b7280'
const GRID = '#e3e6eb'

/** Okabe and Ito's colours, which people with any colour vision can distinguish; with dashes, also in print. */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00'] as const
const DASHES = ['', '7 4', '2 3', '9 3 2 3', '4 2', '1 2'] as const

const escaped = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('"', '&quot;')

interface TextOptions {
  anchor?: 'start' | 'middle' | 'end'
  size?: number
  colour?: string
  bold?: boolean
}

function text(x: number, y: number, content: string, options: TextOptions = {}): string {
  const { anchor = 'start', size = 12, colour = INK, bold = false } = options
  const weight = bold ? ' font-weight="600"' : ''
  return `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" font-size="${size}" fill="${colour}"${weight} ${FONT}>${escaped(content)}</text>`
}

const line = (x1: number, y1: number, x2: number, y2: number, colour: string, width = 1): string =>
  `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}" stroke-width="${width}"/>`

const round = (value: number): number => Math.round(value * 10) / 10

function card(height: number, title: string, subtitle: string, body: readonly string[]): string {
  return `${[
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-label="${escaped(title)}">`,
    `<rect width="${WIDTH}" height="${height}" rx="6" fill="#ffffff"/>`,
    text(20, 26, title, { size: 16, bold: true }),
    text(20, 44, subtitle, { colour: FAINT }),
    ...body,
    '</svg>',
  ].join('\n')}\n`
}

/** Three significant digits at most, thousands with a comma. */
export function short(value: number): string {
  if (value === 0) return '0'
  const magnitude = Math.floor(Math.log10(Math.abs(value)))
  if (magnitude >= 3) return Math.round(value).toLocaleString('en-US')
  return String(Number(value.toFixed(Math.max(0, 2 - magnitude))))
}

export interface Bar {
  label: string
  median: number
  min: number
  max: number
  /** Drawn as KafkaTrace. */
  ours?: boolean
  /** Drawn as a limit. */
  limit?: boolean
}

const BAR_HEIGHT = 20
const BAR_STEP = 30
const LABEL_WIDTH = 316

/** Horizontal bars of medians, with a whisker for the range of the repetitions. */
export function barPlot(title: string, subtitle: string, unit: string, bars: readonly Bar[]): string {
  const height = MARGIN.top + bars.length * BAR_STEP + 40
  const left = LABEL_WIDTH
  // Room for the number behind the longest whisker.
  const right = WIDTH - 96
  const most = Math.max(...bars.map(({ max }) => max), Number.MIN_VALUE)
  const ticks = linearTicks(most)
  const x = (value: number): number => left + (value / (ticks.at(-1) ?? most)) * (right - left)
  const bottom = MARGIN.top + bars.length * BAR_STEP
  const body = ticks.flatMap((tick) => [
    line(x(tick), MARGIN.top, x(tick), bottom, GRID),
    text(x(tick), bottom + 16, short(tick), { anchor: 'middle', size: 11, colour: FAINT }),
  ])
  for (const [index, { label, median, min, max, ours, limit }] of bars.entries()) {
    const top = MARGIN.top + index * BAR_STEP + (BAR_STEP - BAR_HEIGHT) / 2
    const middle = top + BAR_HEIGHT / 2
    const colour = ours === true ? COLOURS[0] : limit === true ? '#b8bec9' : COLOURS[4]
    body.push(
      text(left - 10, middle + 4, label, { anchor: 'end', bold: ours === true }),
      `<rect x="${left}" y="${round(top)}" width="${round(Math.max(1, x(median) - left))}" height="${BAR_HEIGHT}" fill="${colour}"/>`,
      line(x(min), middle, x(max), middle, INK, 1.5),
      line(x(min), middle - 4, x(min), middle + 4, INK, 1.5),
      line(x(max), middle - 4, x(max), middle + 4, INK, 1.5),
      text(x(max) + 8, middle + 4, short(median), { bold: ours === true }),
    )
  }
  body.push(text((left + right) / 2, bottom + 34, unit, { anchor: 'middle', colour: FAINT }))
  return card(height, title, subtitle, body)
}

/** From 0 to a round number that is at least the maximum. */
export function linearTicks(most: number): number[] {
  const rough = most / 4
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one * 4 >= most) ?? power * 10
  const count = Math.ceil(most / step - 1e-9)
  return Array.from({ length: count + 1 }, (_, index) => Number((index * step).toPrecision(6)))
}

export interface Series {
  label: string
  /** `[x, y]`, x rising. */
  points: readonly (readonly [number, number])[]
  /** Drawn faintly and without dots: a reference line, not measurements. */
  guide?: boolean
}

interface Axis {
  label: string
  place(value: number): number
  ticks: readonly (readonly [value: number, label: string])[]
}

const LINE_HEIGHT = 380
const LEGEND_STEP = 18

function linePlot(title: string, subtitle: string, series: readonly Series[], xAxis: Axis, yAxis: Axis): string {
  const legendHeight = Math.ceil(series.length / 2) * LEGEND_STEP
  const top = MARGIN.top + legendHeight + 6
  const height = LINE_HEIGHT + legendHeight
  const bottom = height - MARGIN.bottom
  const left = MARGIN.left
  const right = WIDTH - MARGIN.right
  const x = (value: number): number => left + xAxis.place(value) * (right - left)
  const y = (value: number): number => bottom - yAxis.place(value) * (bottom - top)
  const body = [
    ...xAxis.ticks.flatMap(([value, label]) => [
      line(x(value), top, x(value), bottom, GRID),
      text(x(value), bottom + 18, label, { anchor: 'middle', size: 11, colour: FAINT }),
    ]),
    ...yAxis.ticks.flatMap(([value, label]) => [
      line(left, y(value), right, y(value), GRID),
      text(left - 8, y(value) + 4, label, { anchor: 'end', size: 11, colour: FAINT }),
    ]),
    text((left + right) / 2, height - 12, xAxis.label, { anchor: 'middle', colour: FAINT }),
    `<text transform="translate(16 ${round((top + bottom) / 2)}) rotate(-90)" text-anchor="middle" font-size="12" fill="${FAINT}" ${FONT}>${escaped(yAxis.label)}</text>`,
  ]
  for (const [index, { label, points, guide = false }] of series.entries()) {
    const colour = guide ? FAINT : COLOURS[index % COLOURS.length]
    const dash = DASHES[index % DASHES.length]
    const stroke = `fill="none" stroke="${colour}" stroke-width="${guide ? 1.2 : 2.2}"${dash === '' ? '' : ` stroke-dasharray="${dash}"`}`
    const legendX = left + (index % 2) * ((right - left) / 2)
    const legendY = MARGIN.top + Math.floor(index / 2) * LEGEND_STEP + 6
    body.push(
      `<polyline points="${points.map(([px, py]) => `${round(x(px))},${round(y(py))}`).join(' ')}" ${stroke} stroke-linejoin="round"/>`,
      `<line x1="${legendX}" y1="${legendY}" x2="${legendX + 28}" y2="${legendY}" ${stroke}/>`,
      text(legendX + 36, legendY + 4, label),
    )
    // A curve has hundreds of points. Steps have few, each a measurement.
    if (points.length <= 12 && !guide)
      body.push(
        ...points.map(([px, py]) => `<circle cx="${round(x(px))}" cy="${round(y(py))}" r="3.2" fill="${colour}"/>`),
      )
  }
  return card(height, title, subtitle, body)
}

/** Powers of ten, with 2 and 5 between them where there is room. */
export function logTicks(least: number, most: number): number[] {
  // One more on each side, since logarithms are rounded.
  const from = Math.floor(Math.log10(least)) - 1
  const to = Math.ceil(Math.log10(most)) + 1
  const steps = to - from <= 5 ? [1, 2, 5] : [1]
  const ticks: number[] = []
  for (let power = from; power <= to; power++)
    for (const step of steps) ticks.push(Number((step * 10 ** power).toPrecision(3)))
  const first = ticks.findLastIndex((tick) => tick <= least)
  const last = ticks.findIndex((tick) => tick >= most)
  return ticks.slice(Math.max(0, first), last === -1 ? undefined : last + 1)
}

/** Milliseconds, logarithmic. */
function msAxis(series: readonly Series[]): Axis {
  const values = series.flatMap(({ points }) => points.map(([, ms]) => Math.max(ms, LEAST_MS)))
  const ticks = logTicks(Math.min(...values), Math.max(...values))
  const from = Math.log10(ticks[0] ?? LEAST_MS)
  const to = Math.log10(ticks.at(-1) ?? 1)
  return {
    label: 'milliseconds',
    place: (ms) => (Math.log10(Math.max(ms, LEAST_MS)) - from) / (to - from || 1),
    ticks: ticks.map((tick) => [tick, short(tick)]),
  }
}

const LEAST_MS = 0.1

/** Times by the share of events that took no longer. Each further nine has as much room as the one before. */
export function percentilePlot(title: string, subtitle: string, series: readonly Series[]): string {
  // The maximum is a single event. The axis ends with the quantiles.
  const drawn = series.map(({ label, points }) => ({ label, points: points.filter(([quantile]) => quantile < 1) }))
  const nines = (quantile: number): number => -Math.log10(1 - quantile)
  const most = Math.max(...drawn.flatMap(({ points }) => points.map(([quantile]) => nines(quantile))), 1)
  const ticks = ([0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999] as const).filter((quantile) => nines(quantile) <= most)
  return linePlot(
    title,
    subtitle,
    drawn,
    {
      label: 'share of events, %',
      place: (quantile) => nines(quantile) / most,
      ticks: ticks.map((quantile) => [quantile, String(Number((quantile * 100).toPrecision(8)))]),
    },
    msAxis(drawn),
  )
}

/** Times by the offered rate. */
export const ladderPlot = (title: string, subtitle: string, series: readonly Series[]): string =>
  linePlot(title, subtitle, series, rateAxis('events offered a second', series, 0), msAxis(series))

/** The achieved rate by the offered rate, with a line where both are equal. */
export function throughputPlot(title: string, subtitle: string, series: readonly Series[]): string {
  const most = Math.max(...series.flatMap(({ points }) => points.map(([offered]) => offered)))
  const ideal: Series = {
    label: 'all that is offered',
    guide: true,
    points: [
      [0, 0],
      [most, most],
    ],
  }
  const drawn = [...series, ideal]
  return linePlot(
    title,
    subtitle,
    drawn,
    rateAxis('events offered a second', drawn, 0),
    rateAxis('events stored a second', drawn, 1),
  )
}

/** From 0. @param of the points, x or y */
function rateAxis(label: string, series: readonly Series[], of: 0 | 1): Axis {
  const ticks = linearTicks(Math.max(...series.flatMap(({ points }) => points.map((point) => point[of])), 1))
  const most = ticks.at(-1) ?? 1
  return { label, place: (rate) => rate / most, ticks: ticks.map((tick) => [tick, short(tick)]) }
}
