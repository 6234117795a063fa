import { afterAll, beforeAll } from "vitest";
import { type OwnerName, ThreadCalls } from "../../src/store/thread.io.ts";

/** Keeps the threads of these owners running for all tests of a file: starting one takes a third of a second of CPU. */
export function holdThreads(...names: readonly OwnerName[]): void {
  const held: { close(): Promise<void> }[] = [];
  beforeAll(() => {
    held.push(...names.map((name) => new ThreadCalls(name)));
  });
  afterAll(async () => {
    await Promise.all(held.splice(0).map((calls) => calls.close()));
  });
}
