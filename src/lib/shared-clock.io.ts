/** The clock that all threads of a process share. The zero of `performance.now()` is another in each thread. */

/** What is added to `performance.now()` of this thread to get milliseconds of the shared clock. */
export function sharedOriginMs(): number {
  // The system may stop the thread between the two readings. The least difference of a few is the right one.
  return Math.min(...Array.from({ length: 8 }, () => -performance.now() + Number(process.hrtime.bigint()) / 1e6));
}
