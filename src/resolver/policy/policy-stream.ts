/** The stream on which a resolver receives policies from its current upstream. */
import type { VersionPlace } from "../../policy/versions/version.ts";
import { readPolicyMessage } from "../codec.ts";
import type { WatchedPolicy } from "./watched-policy.ts";

export type PolicyOrder =
  | { readonly kind: "open policy"; readonly stream: number; readonly upstream: string; readonly known: readonly VersionPlace[] }
  | { readonly kind: "close policy"; readonly stream: number };

export class PolicyStream {
  readonly #policy: WatchedPolicy;
  #open: { readonly stream: number; readonly upstream: string } | undefined;
  #count = 0;
  /** Whether a message has arrived on the open stream. */
  hasReceived = false;

  constructor(policy: WatchedPolicy) {
    this.#policy = policy;
  }

  /** Returns the upstream of a stream. Returns undefined if the stream is not open. */
  upstreamOf(stream: number): string | undefined {
    return this.#open?.stream === stream ? this.#open.upstream : undefined;
  }

  /** Processes a message from the open stream. Throws `invalid_argument` for a malformed message. */
  receive(bytes: Uint8Array, monoMs: number): true {
    this.#policy.receive(readPolicyMessage(bytes), monoMs);
    this.hasReceived = true;
    return true;
  }

  /** Records that a stream ended or failed. Returns whether the stream was open. */
  ended(stream: number): boolean {
    if (this.#open?.stream !== stream) return false;
    this.#open = undefined;
    this.#policy.begin(undefined);
    return true;
  }

  /** Opens a stream to this upstream unless it is already open, and closes any other stream. */
  use(upstream: string | undefined, out: { push(order: PolicyOrder): unknown }): void {
    if (this.#open?.upstream === upstream) return;
    if (this.#open !== undefined) out.push({ kind: "close policy", stream: this.#open.stream });
    this.#open = undefined;
    this.hasReceived = false;
    this.#policy.begin(upstream);
    if (upstream === undefined) return;
    this.#count += 1;
    this.#open = { stream: this.#count, upstream };
    out.push({ kind: "open policy", ...this.#open, known: this.#policy.known });
  }

  /** Reopens the stream to the same upstream. */
  reopen(out: { push(order: PolicyOrder): unknown }): void {
    const upstream = this.#open?.upstream;
    this.use(undefined, out);
    this.use(upstream, out);
  }
}
