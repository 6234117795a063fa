/** Work that yields between slices, so that whoever runs it may let the event loop breathe. */

/** Runs it in one go. */
export function runThrough<T>(work: Generator<void, T>): T {
  for (let step = work.next(); ; step = work.next()) if (step.done === true) return step.value;
}
