/** Moments at which the connection between a resolver and its upstream breaks: those at which the resolver has half of what it needs. */
import type { KeyText } from "../../../src/catalog/record/record.ts";

/**
 * `version`: a version of the policy has arrived, and not yet the state that names it. `told`: a snapshot has told of a key, and goes on. `end`: a snapshot that told
 * of the key is whole.
 */
export type Moment = "version" | "told" | "end";

export interface Trip {
  readonly moment: Moment;
  readonly key?: KeyText;
  /** What is let go just before. */
  readonly evicted?: readonly string[];
}

export class Trips {
  #armed: readonly Trip[] = [];
  /** Streams whose snapshot told of a key. */
  #told: readonly { readonly stream: number; readonly key: KeyText }[] = [];

  arm(...trips: readonly Trip[]): void {
    this.#armed = [...this.#armed, ...trips];
  }

  disarm(isOver: (trip: Trip) => boolean = () => true): void {
    this.#armed = this.#armed.filter((trip) => !isOver(trip));
  }

  /** A part of a version of the policy came, alone. */
  version(): Trip | undefined {
    return this.#take(({ moment }) => moment === "version");
  }

  /** A message of a snapshot came. */
  snapshot(stream: number, keys: readonly KeyText[], isEnd: boolean): Trip | undefined {
    if (this.#armed.length === 0) return undefined;
    this.#told = [...this.#told.filter((each) => each.stream >= stream - 2), ...keys.map((key) => ({ stream, key }))];
    const isTold = ({ key }: Trip) => this.#told.some((each) => each.stream === stream && each.key === key);
    return this.#take((trip) => isTold(trip) && trip.moment === (isEnd ? "end" : "told"));
  }

  #take(isNow: (trip: Trip) => boolean): Trip | undefined {
    const trip = this.#armed.find(isNow);
    if (trip !== undefined) this.#armed = this.#armed.filter((each) => each !== trip);
    return trip;
  }
}
