/** Fabric transports for tests: what came in is kept, what is to be sent is queued. */

import { TRANSPORT_LIMITS, type TransportLimits } from "../../src/fabric/transport/limits.ts";
import type { FabricTls } from "../../src/fabric/transport/peer-identity.io.ts";
import {
  type FabricTransport,
  openFabricTransport,
  type TransportEvents,
  type TransportOptions,
} from "../../src/fabric/transport/transport.io.ts";
import type { FabricCallRequest, FabricCallResponse, LinkFrame, PeerIdentity } from "../../src/fabric/wire/messages.ts";
import { newAuthority } from "./certificate.ts";

export interface SeenLink {
  readonly isIncoming: boolean;
  readonly proof: PeerIdentity;
  readonly frames: LinkFrame[];
  closed: string | undefined;
}

/** The machine's place behind one transport. */
export class FakeMachine implements TransportEvents {
  readonly links = new Map<number, SeenLink>();
  readonly asks: { readonly request: FabricCallRequest; readonly proof: PeerIdentity }[] = [];
  readonly answers = new Map<number, FabricCallResponse | undefined>();
  /** Calls that failed because a certificate has ended. */
  readonly ended = new Set<number>();
  readonly refusals: string[] = [];
  readonly failures: string[] = [];
  /** Links that closed before they opened, and why. */
  readonly unopened = new Map<number, string>();
  readonly queues = new Map<number, LinkFrame[]>();
  /** Frames made when they are pulled, where there is no queue. */
  endless: ((link: number) => LinkFrame | undefined) | undefined;
  pulledCount = 0;
  /** Said by itself on each link that opens. */
  greeting: LinkFrame | undefined;
  answer: (request: FabricCallRequest) => FabricCallResponse | undefined = () => undefined;
  transport: FabricTransport | undefined;

  isStranger: (proof: PeerIdentity) => boolean = () => false;

  requested(call: number, request: FabricCallRequest, proof: PeerIdentity): void {
    this.asks.push({ request, proof });
    this.transport?.answer(call, this.answer(request));
  }

  unanswered(_address: string, { why }: { readonly why: string }): void {
    this.failures.push(why);
  }

  answered(call: number, response: FabricCallResponse | undefined, { hasEnded = false }: Parameters<TransportEvents["answered"]>[2]): void {
    this.answers.set(call, response);
    if (hasEnded) this.ended.add(call);
  }

  opened(link: number, isIncoming: boolean, proof: PeerIdentity): void {
    this.links.set(link, { isIncoming, proof, frames: [], closed: undefined });
    if (this.greeting !== undefined) this.say(link, this.greeting);
  }

  received(link: number, frame: LinkFrame): void {
    this.links.get(link)?.frames.push(frame);
  }

  pull(link: number): LinkFrame | undefined {
    const frame = this.queues.get(link)?.shift() ?? this.endless?.(link);
    if (frame !== undefined) this.pulledCount += 1;
    return frame;
  }

  closed(link: number, detail: string): void {
    const seen = this.links.get(link);
    if (seen === undefined) this.unopened.set(link, detail);
    else seen.closed = detail;
  }

  refused(why: string): void {
    this.refusals.push(why);
  }

  /** Queues a frame. */
  say(link: number, ...frames: readonly LinkFrame[]): void {
    this.queues.set(link, [...(this.queues.get(link) ?? []), ...frames]);
    this.transport?.wake(link);
  }

  /** The links others opened. */
  incoming(): readonly SeenLink[] {
    return [...this.links.values()].filter((link) => link.isIncoming);
  }

  find(link: number): SeenLink {
    const seen = this.links.get(link);
    if (seen === undefined) throw new Error(`link ${link} is not open: ${this.unopened.get(link) ?? "not yet"}`);
    return seen;
  }

  port(): string {
    return this.transport?.address ?? "";
  }
}

export type TestTransportOptions = Partial<Omit<TransportOptions, "limits">> & { readonly limits?: Partial<TransportLimits> };

/** A transport on a free port of loopback, with a machine of its own. */
export async function openTestTransport({
  limits,
  ...options
}: TestTransportOptions = {}): Promise<FakeMachine & { readonly transport: FabricTransport }> {
  const machine = new FakeMachine();
  const transport = await openFabricTransport(
    {
      host: "127.0.0.1",
      port: 0,
      tls: undefined,
      isInsecure: false,
      clusterToken: "",
      onCut: (reason) => void machine.refusals.push(reason),
      limits: { ...TRANSPORT_LIMITS, ...limits },
      ...options,
    },
    machine,
  );
  return Object.assign(machine, { transport });
}

/** An authority whose certificates name nodes. */
export class FabricAuthority {
  readonly #authority = newAuthority();
  readonly ca: Buffer = Buffer.from(this.#authority.cert);

  issue(nodeId: string, options: { readonly clusterId?: string; readonly domain?: string; readonly endsInMs?: number } = {}): FabricTls {
    const uri = `spiffe://${options.domain ?? "waymark"}/waymark/cluster/${options.clusterId ?? "c1"}/node/${nodeId}`;
    return this.#tls(nodeId, { uris: [uri], ...(options.endsInMs === undefined ? {} : { endsInMs: options.endsInMs }) });
  }

  /** Signed, but no node's. */
  issueOther(uris: readonly string[]): FabricTls {
    return this.#tls("somebody", { uris });
  }

  #tls(name: string, options: { readonly uris: readonly string[]; readonly endsInMs?: number }): FabricTls {
    const { cert, key } = this.#authority.issue(name, options);
    return { cert: Buffer.from(cert), key: Buffer.from(key), clientCa: this.ca };
  }
}
