/** Unit-test files share a process, because loading everything anew for each costs more than the tests: each leaves that process as it found it. */
import { afterAll, beforeAll } from "vitest";
import { lastPause, stallAwareNowMs } from "../src/lib/stall-aware-time.io.ts";

/** A log that nobody uses any more takes its listener away when its memory is collected, whichever file is at work then. */
const isCollected = (name: string | symbol) => name === "exit";
/** Libraries that a file is the first to load keep these; all copies of such a library share them, which is what they are for. */
const isRegistry = (name: string) => name.startsWith("__zod_");

/** What a file could leave behind for the next one. */
function surroundings(): string {
  return JSON.stringify({
    environment: process.env,
    folder: process.cwd(),
    listeners: process
      .eventNames()
      .filter((name) => !isCollected(name))
      .map((name) => `${String(name)} ${process.listenerCount(name)}`),
    globals: Object.getOwnPropertyNames(globalThis).filter((name) => !isRegistry(name)),
    prototypes: [Object, Array, Map, Set, Promise, Uint8Array, String].map(({ prototype }) => Object.getOwnPropertyNames(prototype).length),
  });
}

const clocks = { setTimeout, setInterval, setImmediate, queueMicrotask, Date, performance, random: Math.random };
let before = "";

beforeAll(() => {
  // The process has one clock of its event loop, whose timer must not be one of a file that replaces timers.
  stallAwareNowMs();
  before = surroundings();
});

afterAll(() => {
  const now = { setTimeout, setInterval, setImmediate, queueMicrotask, Date, performance, random: Math.random };
  const changed = Object.entries(clocks).flatMap(([name, clock]) => (now[name as keyof typeof now] === clock ? [] : [name]));
  if (changed.length > 0) throw new Error(`a file of tests left another ${changed.join(", ")} behind`);
  if (lastPause().endMonoMs > performance.now()) throw new Error("a file of tests put the clock of the event loop ahead for all others");
  const after = surroundings();
  if (after !== before) throw new Error(`a file of tests changed what the next one finds:\n${before}\n${after}`);
});
