/** Makes what fails small, so that it can be read. */

/**
 * Leaves out parts for as long as what is left still fails: halves first, then smaller parts, at last single ones (delta debugging).
 * @param fails whether these parts, in their order, fail
 * @param mayGoOn false ends the search with the smallest that was found
 */
export async function smallest<Part>(
  parts: readonly Part[],
  fails: (parts: readonly Part[]) => Promise<boolean>,
  mayGoOn: () => boolean,
): Promise<readonly Part[]> {
  let left = parts
  for (let size = Math.ceil(left.length / 2); size >= 1 && mayGoOn(); ) {
    const before = left.length
    for (let from = 0; from < left.length && left.length > 1 && mayGoOn(); ) {
      const without = [...left.slice(0, from), ...left.slice(from + size)]
      if (without.length > 0 && (await fails(without))) left = without
      else from += size
    }
    // What could not be left out before may be, now that there is less.
    if (size > 1) size = Math.ceil(size / 2)
    else if (left.length === before) return left
  }
  return left
}
