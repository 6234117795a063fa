/** What a store without a disk answers to the requests of tasks, and a run of tasks in which every answer may come late or be an error. */
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import { type Answer, type Request, type Task, type TaskId, type TaskOrder, Tasks } from "../../src/policy/task.ts";
import type { ControlMap } from "./control-map.ts";

type Asked = Extract<TaskOrder, { kind: "ask" }>;

const OVER = { kind: "over" } as const;

/** What the store says; the rest is over at once. */
export function answerOf(map: ControlMap, request: Request): Answer {
  try {
    switch (request.kind) {
      case "get":
        return { kind: "item", item: map.get(request.key) };
      case "list":
        return { kind: "page", page: map.list(request.prefix, { after: request.after }) };
      case "swap":
        return { kind: "swapped", isSwapped: map.compareAndSwap(request.key, request.expectedVersion, request.value).isSwapped };
      case "audited":
      case "shown":
      case "heard":
        return OVER;
    }
  } catch (error) {
    return { kind: "failed", error };
  }
}

/** One request fails: before anything is done for it, or after, so that its answer is lost. */
export interface Fault {
  /** Counted from 0. */
  readonly at: number;
  readonly isDone: boolean;
}

export class TaskRun {
  readonly tasks = new Tasks();
  readonly #map: ControlMap;
  readonly #fault: Fault | undefined;
  readonly #onRequest: (request: Request) => void;
  readonly #orders: TaskOrder[] = [];
  readonly #asked: Asked[] = [];
  #requestCount = 0;
  readonly ended = new Map<TaskId, { readonly result: unknown } | { readonly error: unknown }>();

  constructor(map: ControlMap, fault?: Fault, onRequest: (request: Request) => void = () => {}) {
    this.#map = map;
    this.#fault = fault;
    this.#onRequest = onRequest;
  }

  begin(task: Task<unknown>, now: Time): TaskId {
    const id = this.tasks.begin(task, now, this.#orders);
    this.#sort();
    return id;
  }

  /** Until no task is under way; `choose(n)` says which of n that could go on does, 0 to n − 1. */
  finish(now: Time, choose: (count: number) => number = () => 0): void {
    for (let steps = 0; !this.tasks.isAtRest; steps++) {
      if (steps > 10_000) throw new Error("the tasks do not end");
      const count = this.#asked.length + Number(this.tasks.hasPaused);
      if (count === 0) throw new Error("a task waits for nothing");
      const [order] = this.#asked.splice(choose(count), 1);
      if (order === undefined) this.tasks.resume(1, now, this.#orders);
      else this.tasks.answered(order.ask, this.#answer(order.request), now, this.#orders);
      this.#sort();
    }
  }

  #answer(request: Request): Answer {
    this.#onRequest(request);
    const isFault = this.#requestCount++ === this.#fault?.at;
    const answer = isFault && !this.#fault.isDone ? OVER : answerOf(this.#map, request);
    return isFault ? { kind: "failed", error: new WaymarkError("store_unavailable", "planted") } : answer;
  }

  #sort(): void {
    for (const order of this.#orders.splice(0)) {
      if (order.kind === "ask") this.#asked.push(order);
      else this.ended.set(order.task, order.kind === "done" ? { result: order.result } : { error: order.error });
    }
  }
}
