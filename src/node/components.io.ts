/** The list of a node's parts. The parts open, start and reload in list order, and drain and stop in reverse order. */
import { performance } from "node:perf_hooks";
import { rethrowInvariant } from "../lib/errors.ts";
import type { Log } from "../lib/log.io.ts";
import type { Time } from "../lib/machine.ts";
import type { ReadyCheck } from "../server/http-routes.ts";

/** A deadline that several parts share. */
export class StopDeadline {
  readonly #monoMs: number;

  constructor(withinMs: number) {
    this.#monoMs = performance.now() + withinMs;
  }

  /** Returns the time left in whole milliseconds, at least `leastMs`. */
  leftMs(leastMs = 0): number {
    return Math.max(leastMs, Math.ceil(this.#monoMs - performance.now()));
  }

  /** Returns half of the time left, for a part that is not the last. */
  halfMs(): number {
    return Math.ceil(this.leftMs() / 2);
  }
}

/** Lifecycle hooks of an open part. */
export interface NodeComponent {
  /** Starts everything that is visible outside the process. Runs when all parts are open. */
  start?(): Promise<void> | void;
  /** Reads the part's files again. If a file is unusable, logs the fault and continues to use the old content. */
  reload?(): void;
  /** Stops accepting new work. Resolves when current work has ended, or at the deadline. */
  drain?(by: StopDeadline): Promise<void> | void;
  /** Minimum time that this part gets to drain, in ms, even if earlier parts used up the shared time. */
  readonly leastDrainMs?: number;
  /** Closes the part, even if `start` failed. Work that is unfinished at the deadline is aborted or abandoned. */
  stop?(by: StopDeadline): Promise<void> | void;
  readiness?(time: Time): readonly ReadyCheck[];
  /** Sets the gauges of the part. Runs at each scrape. */
  observe?(): void;
}

/** Called before each step of a start. Tests make it throw. */
export type OnStep = (step: string) => void;

interface NamedComponent {
  readonly name: string;
  readonly component: NodeComponent;
}

export class NodeComponents {
  readonly #log: Pick<Log, "error">;
  readonly #onStep: OnStep;
  readonly #interrupt: AbortSignal | undefined;
  readonly #list: NamedComponent[] = [];

  /** `interrupt`: when it aborts, no further parts are opened. */
  constructor(log: Pick<Log, "error">, onStep: OnStep = () => {}, interrupt?: AbortSignal) {
    this.#log = log;
    this.#onStep = onStep;
    this.#interrupt = interrupt;
  }

  /** Opens a group of parts that is a single part of this list. The parts in the group drain and stop in parallel. */
  group(name: string): Promise<NodeComponents> {
    return this.open(
      name,
      () => new NodeComponents(this.#log, this.#onStep, this.#interrupt),
      (group) => ({
        start: () => group.start(),
        reload: () => group.reload(),
        drain: (by) => group.#together("drain", by),
        stop: (by) => group.#together("stop", by),
        readiness: (time) => group.readiness(time),
        observe: () => group.observe(),
      }),
    );
  }

  /**
   * Opens another part. If `open` fails, it must have closed everything that it opened. `stop` then closes the parts before it. If `interrupt` has
   * aborted, rejects with its reason.
   */
  async open<T>(name: string, open: () => Promise<T> | T, component: (opened: T) => NodeComponent): Promise<T> {
    this.#interrupt?.throwIfAborted();
    this.#onStep(`open ${name}`);
    const opened = await open();
    this.#list.push({ name, component: component(opened) });
    return opened;
  }

  async start(): Promise<void> {
    for (const { name, component } of this.#list) {
      this.#onStep(`start ${name}`);
      await component.start?.();
    }
  }

  /** Reloads all parts, even when one of them fails. */
  reload(): void {
    for (const { name, component } of this.#list) {
      try {
        component.reload?.();
      } catch (error) {
        rethrowInvariant(error);
        this.#log.error({ err: error, component: name }, "component not reloaded");
      }
    }
  }

  /** Drains the parts one after the other, starting with the last one. A part that fails or misses the deadline is logged and then skipped. */
  async drain(by: StopDeadline): Promise<void> {
    for (const part of this.#list.toReversed()) await this.#end(part, "drain", by);
  }

  /** Stops the parts in the same order, with the same handling of failures. */
  async stop(by: StopDeadline): Promise<void> {
    for (const part of this.#list.splice(0).toReversed()) await this.#end(part, "stop", by);
  }

  readiness(time: Time): readonly ReadyCheck[] {
    return this.#list.flatMap(({ component }) => component.readiness?.(time) ?? []);
  }

  observe(): void {
    for (const { component } of this.#list) component.observe?.();
  }

  async #together(how: "drain" | "stop", by: StopDeadline): Promise<void> {
    await Promise.all(this.#list.toReversed().map((part) => this.#end(part, how, by)));
  }

  async #end({ name, component }: NamedComponent, how: "drain" | "stop", by: StopDeadline): Promise<void> {
    const late = Promise.withResolvers<void>();
    const leftMs = by.leftMs(how === "drain" ? component.leastDrainMs : 0);
    const timer = setTimeout(() => late.reject(new Error(`did not finish within ${leftMs} ms`)), leftMs);
    try {
      await Promise.race([component[how]?.(by), late.promise]);
    } catch (error) {
      rethrowInvariant(error);
      this.#log.error({ err: error, component: name }, how === "drain" ? "component not drained" : "component not closed");
    } finally {
      clearTimeout(timer);
    }
  }
}
