/** The services that this node summarises, and when each is to be looked at (docs/design/summaries.md, Building). */
import { SCOPE } from "../../catalog/entry/scope.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { DeadlineHeap } from "../../lib/heap.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Channel } from "../summary.ts";

/** No scope is as wide. */
export const NO_SCOPE: number = SCOPE.GLOBAL + 1;

const KINDS = Object.values(KIND);

/** What is remembered of a service between two looks. Its entries are not, and what was sent is in the summary replica. */
export interface Service {
  readonly id: number;
  /** As `nameOfKey` gives it. */
  readonly nameKey: string;
  readonly kind: Kind;
  readonly namespace: string;
  readonly name: string;
  /** When it is to be looked at; NEVER while nothing is to be done. Only `Services` writes it. */
  wakeAtMonoMs: number;
  /** When its entries are to be counted; NEVER while nothing changed. */
  countAtMonoMs: number;
  /** When they are to be counted again to see that what was sent is held; NEVER when nothing was sent since. */
  checkAtMonoMs: number;
  /** When what is held of it is to be signed again with another key; NEVER while nothing is. */
  againAtMonoMs: number;
  /** When they were counted last because of a change. */
  countedMonoMs: number;
  /** An entry of this scope or a wider one would show the service for the first time on some channel. */
  firstScope: number;
  /** `text` of the permission under which it was looked at last. */
  permissionText: string | undefined;
  /** When its summary was sent last, by channel. */
  readonly sentMonoMs: Map<Channel, number>;
}

export class Services {
  readonly #byName = new Map<string, Service>();
  readonly #byId: (Service | undefined)[] = [];
  readonly #freeIds: number[] = [];
  readonly #due = new DeadlineHeap();
  /** When windows open or close, by the wall clock. */
  readonly #edges = new DeadlineHeap();

  get size(): number {
    return this.#byName.size;
  }

  find(nameKey: string): Service | undefined {
    return this.#byName.get(nameKey);
  }

  add(nameKey: string): Service {
    const [namespace = "", name = "", kindText = ""] = nameKey.split("\0");
    const service: Service = {
      id: this.#freeIds.pop() ?? this.#byId.length,
      nameKey,
      kind: KINDS.find((kind) => `${kind}` === kindText) ?? KIND.SERVICE,
      namespace,
      name,
      wakeAtMonoMs: NEVER,
      countAtMonoMs: NEVER,
      checkAtMonoMs: NEVER,
      againAtMonoMs: NEVER,
      countedMonoMs: Number.NEGATIVE_INFINITY,
      firstScope: NO_SCOPE,
      permissionText: undefined,
      sentMonoMs: new Map(),
    };
    this.#byName.set(nameKey, service);
    this.#byId[service.id] = service;
    return service;
  }

  drop({ id, nameKey }: Service): void {
    this.#due.remove(id);
    this.#edges.remove(id);
    this.#byName.delete(nameKey);
    this.#byId[id] = undefined;
    this.#freeIds.push(id);
  }

  clear(): void {
    for (const service of this.#byName.values()) this.drop(service);
  }

  /** The service is to be looked at then, or earlier if it was to be anyway. */
  wake(service: Service, atMonoMs: number): void {
    if (atMonoMs >= service.wakeAtMonoMs) return;
    service.wakeAtMonoMs = atMonoMs;
    this.#due.set(service.id, atMonoMs);
  }

  /** A window opens or closes for it at this instant. */
  setEdge({ id }: Service, wallMs: number | undefined): void {
    if (wallMs === undefined) this.#edges.remove(id);
    else this.#edges.set(id, wallMs);
  }

  /** Takes a service that is due: those with a window that opened or closed first, then the one that has waited longest. */
  take({ monoMs, wallMs }: Time): Service | undefined {
    const atEdge = this.#edges.nextDeadlineMs() <= wallMs;
    const id = atEdge ? this.#edges.nextId() : this.#due.nextDeadlineMs() <= monoMs ? this.#due.nextId() : undefined;
    const service = id === undefined ? undefined : this.#byId[id];
    if (service === undefined) return undefined;
    if (atEdge) this.#edges.remove(service.id);
    if (service.wakeAtMonoMs > monoMs) return service;
    this.#due.remove(service.id);
    service.wakeAtMonoMs = NEVER;
    return service;
  }

  nextDueMonoMs(): number {
    return this.#due.nextDeadlineMs();
  }

  nextEdgeWallMs(): number {
    return this.#edges.nextDeadlineMs();
  }
}
