/** The peers that this node wants to link to, and when it retries each of them. */
import { backoffMs } from "../../lib/backoff.ts";
import { NEVER, type Time } from "../../lib/machine.ts";
import type { Rng } from "../../lib/rng.ts";
import type { Goodbye } from "../wire/messages.ts";
import type { LinksOptions } from "./options.ts";

interface KnownPeer {
  readonly nodeId: string;
  address: string;
  isWanted: boolean;
  /** No link is opened to the peer before this time. */
  openMonoMs: number;
  /** Time at which the link to a peer that is no longer wanted ends. */
  releaseMonoMs: number;
  /** Number of failed attempts since a link to the peer last stayed up for some time. */
  attempt: number;
}

export type RetryPeer = Readonly<Omit<KnownPeer, "attempt">>;

export class LinkRetry {
  readonly #options: LinksOptions;
  readonly #nodeId: string;
  readonly #rng: Rng;
  readonly #peers = new Map<string, KnownPeer>();

  constructor(options: LinksOptions, { nodeId, rng }: { readonly nodeId: string; readonly rng: Rng }) {
    this.#options = options;
    this.#nodeId = nodeId;
    this.#rng = rng;
  }

  get list(): readonly RetryPeer[] {
    return [...this.#peers.values()];
  }

  /** Sets the peers that this node wants to link to from now on. */
  want(wanted: readonly { readonly nodeId: string; readonly address: string }[], time: Time): void {
    const ids = new Set<string>();
    for (const { nodeId, address } of wanted) {
      ids.add(nodeId);
      const known = this.#peers.get(nodeId);
      if (known === undefined) {
        const openMonoMs = time.monoMs + this.#yieldMs(nodeId);
        this.#peers.set(nodeId, { nodeId, address, isWanted: true, openMonoMs, releaseMonoMs: NEVER, attempt: 0 });
        continue;
      }
      if (known.address !== address) {
        known.address = address;
        known.attempt = 0;
        known.openMonoMs = time.monoMs + this.#yieldMs(nodeId);
      }
      known.isWanted = true;
    }
    for (const peer of this.#peers.values()) {
      if (!peer.isWanted || ids.has(peer.nodeId)) continue;
      peer.isWanted = false;
      peer.releaseMonoMs = time.monoMs + this.#options.notWantedMs;
    }
  }

  forget(nodeId: string): void {
    this.#peers.delete(nodeId);
  }

  clear(): void {
    this.#peers.clear();
  }

  /** Resets the backoff, because a link to the peer has stayed up for some time. */
  lasted(nodeId: string): void {
    const peer = this.#peers.get(nodeId);
    if (peer !== undefined) peer.attempt = 0;
  }

  retryLater(nodeId: string, time: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer === undefined) return;
    const { reconnectBaseMs: baseMs, reconnectMaxMs: maxMs } = this.#options;
    const waitMs = backoffMs(peer.attempt, this.#rng.next(), { baseMs, maxMs });
    peer.openMonoMs = Math.max(peer.openMonoMs, time.monoMs + waitMs + this.#yieldMs(nodeId));
    peer.attempt += 1;
  }

  retryAfter(nodeId: string, reason: Goodbye, time: Time): void {
    const peer = this.#peers.get(nodeId);
    if (peer === undefined) return;
    if (reason === "duplicate_link" || reason === "restart" || reason === "not_needed") {
      this.retryLater(nodeId, time);
      return;
    }
    const { refusedRetryMs, reconnectMaxMs } = this.#options;
    const isRefused = reason !== "too_many_links" && reason !== "leave";
    peer.openMonoMs = time.monoMs + Math.round((isRefused ? refusedRetryMs : reconnectMaxMs) * (0.5 + this.#rng.next()));
  }

  /** Allows an immediate retry of all peers, regardless of their earlier answers. */
  retryNow(): void {
    for (const peer of this.#peers.values()) {
      peer.attempt = 0;
      peer.openMonoMs = Number.NEGATIVE_INFINITY;
    }
  }

  /** Either of the two nodes may open the link between them. The node with the smaller id tries first, so that duplicate links are rare. */
  #yieldMs(nodeId: string): number {
    return this.#nodeId < nodeId ? 0 : Math.round(this.#options.yieldMs * (0.5 + this.#rng.next()));
  }
}
