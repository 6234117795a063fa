/** The connection to an ingress of another cluster, which is used after it is proven that the server belongs to that cluster. */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ServerChannel } from "../calls.ts";
import { created } from "../request-bytes.ts";
import { RequestError, unreachedFailure } from "../request-error.ts";

/** An ingress that does not prove itself in this time is passed over. */
const PROOF_MS = 2000;

/** What is wrong with the addresses or the certificate of a server, or the addresses at which nothing is. */
export type ServerProbeResult = { readonly fault: string } | { readonly addresses: readonly string[] };

/** A connection to addresses, whatever the name of the server means meanwhile: who owns a name may tell another address when it is asked again. */
export interface AimedChannel extends ServerChannel {
  /** Where the next calls go. */
  aim(addresses: readonly string[]): void;
}

export interface ProofOptions {
  readonly clusterId: string;
  /** Looks where the server is, and who. Asked before the first call. */
  readonly lookAt: (server: string, timeoutMs: number) => Promise<ServerProbeResult>;
  /** Monotonic clock. */
  readonly nowMs: () => number;
}

export class ProvenChannel implements ServerChannel {
  readonly server: string;
  readonly #inner: AimedChannel;
  readonly #options: ProofOptions;
  #proof: Promise<void> | undefined;

  constructor(inner: AimedChannel, options: ProofOptions) {
    this.server = inner.server;
    this.#inner = inner;
    this.#options = options;
  }

  async unary<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageShape<I>,
    { timeoutMs, ...options }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<MessageShape<O>> {
    const beganMs = this.#options.nowMs();
    await this.#proven(timeoutMs);
    const leftMs = Math.max(timeoutMs - (this.#options.nowMs() - beganMs), 1);
    return this.#inner.unary(method, request, { timeoutMs: leftMs, ...options }).catch((error: unknown) => this.#lost(error));
  }

  async *serverStream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageShape<I>,
    options: { readonly signal?: AbortSignal },
  ): AsyncIterable<MessageShape<O>> {
    await this.#proven(PROOF_MS);
    try {
      yield* this.#inner.serverStream(method, request, options);
    } catch (error) {
      this.#lost(error);
    }
  }

  close(): void {
    this.#inner.close();
  }

  async #proven(timeoutMs: number): Promise<void> {
    this.#proof ??= this.#prove(Math.min(timeoutMs, PROOF_MS)).catch((error: unknown) => {
      this.#proof = undefined;
      throw error;
    });
    await this.#proof;
  }

  async #prove(timeoutMs: number): Promise<void> {
    const { clusterId, lookAt, nowMs } = this.#options;
    const beganMs = nowMs();
    const looked = await lookAt(this.server, timeoutMs);
    if ("fault" in looked) throw unreachedFailure(looked.fault, this.server);
    this.#inner.aim(looked.addresses);
    const { serverInfo } = DiscoveryService.method;
    const leftMs = Math.max(timeoutMs - (nowMs() - beganMs), 1);
    const answer = await this.#inner.unary(serverInfo, created(serverInfo.input, {}, this.server), { timeoutMs: leftMs });
    if (answer.clusterId !== clusterId) throw unreachedFailure(`the server there is of the cluster ${answer.clusterId}`, this.server);
  }

  /** Another server may have the address when it comes back. */
  #lost(error: unknown): never {
    if (error instanceof RequestError && error.isAway) this.#proof = undefined;
    throw error;
  }
}
