/** What a store without a disk answers to the requests of tasks, and a run of tasks in which every answer may come late or be an error. */
import { WaymarkError } from "../../src/lib/errors.ts";
import type { Time } from "../../src/lib/machine.ts";
import {
  type PolicyTask,
  type StoreRequest,
  type TaskAnswer,
  TaskMachine,
  type TaskOrder,
  type TaskRequest,
  type TaskResult,
} from "../../src/policy/task.ts";
import type { ControlMap } from "./control-map.ts";

const OVER = { kind: "over" } as const;

/** What the store answers. */
export function answerOf(map: ControlMap, request: StoreRequest): TaskAnswer {
  try {
    switch (request.kind) {
      case "get":
        return { kind: "item", item: map.get(request.key) };
      case "list":
        return { kind: "page", page: map.list(request.prefix, { after: request.after }) };
      case "swap":
        return { kind: "swapped", isSwapped: map.compareAndSwap(request.key, request.expectedVersion, request.value).isSwapped };
      case "publish":
        return { kind: "swapped", isSwapped: true };
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
  readonly tasks = new TaskMachine();
  readonly #map: ControlMap;
  readonly #fault: Fault | undefined;
  readonly #onRequest: (request: TaskRequest) => void;
  readonly #asked: TaskOrder[] = [];
  #requestCount = 0;
  #taskCount = 0;
  /** By the number of the task, from 1. */
  readonly ended = new Map<number, TaskResult>();

  constructor(map: ControlMap, fault?: Fault, onRequest: (request: TaskRequest) => void = () => {}) {
    this.#map = map;
    this.#fault = fault;
    this.#onRequest = onRequest;
  }

  begin(work: PolicyTask<unknown>, now: Time): number {
    this.#taskCount += 1;
    const id = this.#taskCount;
    this.tasks.handle({ kind: "begin", work, ended: (ended) => this.ended.set(id, ended) }, now, this.#asked);
    return id;
  }

  /** Until no task is under way; `choose(n)` says which of n that could go on does, 0 to n − 1. */
  finish(now: Time, choose: (count: number) => number = () => 0): void {
    for (let steps = 0; !this.tasks.isAtRest; steps++) {
      if (steps > 10_000) throw new Error("the tasks do not end");
      const count = this.#asked.length + Number(this.tasks.pausedCount > 0);
      if (count === 0) throw new Error("a task waits for nothing");
      const [order] = this.#asked.splice(choose(count), 1);
      if (order === undefined) this.tasks.handle({ kind: "tick" }, now, this.#asked);
      else this.tasks.handle({ kind: "answered", ask: order.ask, answer: this.#answer(order) }, now, this.#asked);
    }
  }

  #answer(order: TaskOrder): TaskAnswer {
    this.#onRequest(order.kind === "store" ? order.request : { kind: order.until });
    const isFault = this.#requestCount++ === this.#fault?.at;
    const isSkipped = (isFault && !this.#fault.isDone) || order.kind === "wait";
    const answer = isSkipped ? OVER : answerOf(this.#map, order.request);
    return isFault ? { kind: "failed", error: new WaymarkError("store_unavailable", "planted") } : answer;
  }
}
