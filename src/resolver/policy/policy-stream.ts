/** The one stream on which a resolver is told of the policy: that of the upstream that it uses. */
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
  /** Whether the stream that is open has said something. */
  hasSpoken = false;

  constructor(policy: WatchedPolicy) {
    this.#policy = policy;
  }

  /** The upstream of the stream, if it is the one that is open. */
  upstreamOf(stream: number): string | undefined {
    return this.#open?.stream === stream ? this.#open.upstream : undefined;
  }

  /** Takes what the open stream says. Throws `invalid_argument` for what no server of ours can have sent. */
  hear(bytes: Uint8Array, monoMs: number): true {
    this.#policy.hear(readPolicyMessage(bytes), monoMs);
    this.hasSpoken = true;
    return true;
  }

  /** A stream ended or failed. Returns whether it was the one that is open. */
  ended(stream: number): boolean {
    if (this.#open?.stream !== stream) return false;
    this.#open = undefined;
    this.#policy.begin(undefined);
    return true;
  }

  /** The stream is to be one of this upstream. */
  use(upstream: string | undefined, out: { push(order: PolicyOrder): unknown }): void {
    if (this.#open?.upstream === upstream) return;
    if (this.#open !== undefined) out.push({ kind: "close policy", stream: this.#open.stream });
    this.#open = undefined;
    this.hasSpoken = false;
    this.#policy.begin(upstream);
    if (upstream === undefined) return;
    this.#count += 1;
    this.#open = { stream: this.#count, upstream };
    out.push({ kind: "open policy", ...this.#open, known: this.#policy.known });
  }

  /** Opens the stream again at the same upstream. */
  reopen(out: { push(order: PolicyOrder): unknown }): void {
    const upstream = this.#open?.upstream;
    this.use(undefined, out);
    this.use(upstream, out);
  }
}
