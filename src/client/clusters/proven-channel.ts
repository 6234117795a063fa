/** The connection to an ingress of another cluster. The connection is used only after the server has proved that it belongs to that cluster. */
import type { DescMessage, DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import type { ServerChannel } from "../calls.ts";
import { created } from "../request-bytes.ts";
import { RequestError, unreachedFailure } from "../request-error.ts";

/** An ingress that cannot be verified within this time is skipped. */
const PROOF_MS = 2000;

/** The fault in a server's addresses or certificate, or the server's addresses if there is no fault. */
export type ServerProbeResult = { readonly fault: string } | { readonly addresses: readonly string[] };

/**
 * A connection to fixed addresses. The server's name is not looked up again, because its owner could return other addresses after the check.
 */
export interface DirectedChannel extends ServerChannel {
  /** Sets the addresses for subsequent calls. */
  aim(addresses: readonly string[]): void;
}

export interface ProofOptions {
  readonly clusterId: string;
  /** Looks up and checks the server. Called before the first call. */
  readonly lookAt: (server: string, timeoutMs: number) => Promise<ServerProbeResult>;
  /** Monotonic clock. */
  readonly nowMs: () => number;
}

export class ProvenChannel implements ServerChannel {
  readonly server: string;
  readonly #inner: DirectedChannel;
  readonly #options: ProofOptions;
  #proof: Promise<void> | undefined;

  constructor(inner: DirectedChannel, options: ProofOptions) {
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
    if (answer.clusterId !== clusterId) throw unreachedFailure(`the server belongs to cluster ${answer.clusterId}`, this.server);
  }

  /** After a connection is lost, its address may belong to another server, so the next call verifies the server again. */
  #lost(error: unknown): never {
    if (error instanceof RequestError && error.isAway) this.#proof = undefined;
    throw error;
  }
}
