/** The fabric's sockets: the listener for other nodes, links and calls to them. Decides nothing about the fabric. */
import { createSecureContext, type SecureContext } from "node:tls";
import { isLoopbackHost } from "../../lib/addresses.ts";
import { WaymarkError } from "../../lib/errors.ts";
import { patientDueMs, patientNowMs, patientTimeout } from "../../lib/patient-time.io.ts";
import type { CallId, LinkId } from "../io-types.ts";
import { LINKS_FIXED } from "../links/options.ts";
import { decodeCallResponse, encodeCallRequest } from "../wire/call-codec.ts";
import type { CallRequest, CallResponse, LinkFrame, PeerIdentity } from "../wire/messages.ts";
import { detailField, MESSAGE_BOUNDS } from "../wire/validation.ts";
import { type CallFailure, CallPool } from "./call-pool.io.ts";
import { callHeaders, type Dial, type Dialled, dial } from "./dial.io.ts";
import { type LinkEvents, LinkStream } from "./link-stream.io.ts";
import { FabricListener, type LinkedEvents, type ListenerLimits, type OpenFabricAcceptor, type SessionGuard } from "./listener.io.ts";
import { type FabricTls, trustDomainOf } from "./peer-identity.io.ts";
import { WireTraffic } from "./traffic.ts";

/** What a peer, and everybody together, may make the sockets hold, and how long for. */
export interface TransportLimits extends ListenerLimits {
  /** To open a link: TCP, TLS, HTTP/2 and the other side's consent. */
  readonly openTimeoutMs: number;
  /** Connections for calls of ours. */
  readonly maxChannels: number;
  /** Calls of ours that wait for an answer. */
  readonly maxCalls: number;
}

/** They are not settings. */
export const TRANSPORT_LIMITS: TransportLimits = {
  keepaliveTimeMs: 10_000,
  keepaliveTimeoutMs: 5_000,
  stuckMs: 30_000,
  drainMs: 5_000,
  goodbyeMs: 1_000,
  maxConnections: 2_048,
  maxStreamsPerConnection: 64,
  maxIncomingLinks: 512,
  helloTimeoutMs: LINKS_FIXED.helloTimeoutMs,
  openTimeoutMs: 5_000,
  maxIncomingCalls: 1_024,
  maxStrangerCalls: 64,
  answerTimeoutMs: 10_000,
  maxMessageBytes: 4_194_304,
  maxStrangerBytes: 4_096,
  maxBufferedBytes: 67_108_864,
  maxChannels: 64,
  maxCalls: 256,
  idleMs: 30_000,
};

/** The machine's side; ids as in `fabric/io-types.ts`. None is called from within a method of the transport but `stop`. */
export interface TransportEvents {
  asked(call: CallId, request: CallRequest, identity: PeerIdentity): void;
  /** Whether who proves this is refused, whatever it asks. */
  isStranger(identity: PeerIdentity): boolean;
  /** `refusal`: somebody is there and turned us away, and why. */
  answered(call: CallId, response: CallResponse | undefined, refusal?: string): void;
  opened(link: LinkId, isIncoming: boolean, identity: PeerIdentity): void;
  received(link: LinkId, frame: LinkFrame): void;
  /** The next frame for a link; undefined when there is none now. */
  pull(link: LinkId): LinkFrame | undefined;
  closed(link: LinkId, detail: string): void;
  /** Somebody was turned away before the machine heard of it. */
  refused(why: string, address: string): void;
  /** Somebody whom we asked to exchange tables did not, and this is why. */
  unanswered(address: string, failure: CallFailure): void;
}

export interface TransportOptions {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  /** Mutual TLS; without it the listener is for loopback only, unless `isInsecure`. */
  readonly tls: FabricTls | undefined;
  readonly isInsecure: boolean;
  /** Goes with each call on plain connections; empty: none. Links say it in their hello. */
  readonly clusterToken: string;
  readonly limits?: TransportLimits | undefined;
  readonly openFabricAcceptor: OpenFabricAcceptor;
  readonly guard: SessionGuard;
}

/** Binds and serves. Rejects with a message for people when it cannot, or must not. */
export async function openFabricTransport(options: TransportOptions, events: TransportEvents): Promise<FabricTransport> {
  if (options.tls === undefined && !isLoopbackHost(options.host) && !options.isInsecure)
    throw new Error(
      `on ${options.host} the fabric listener would take anybody's word: configure its certificates, or, where the network itself is trusted, pass --insecure`,
    );
  checkToken(options.clusterToken);
  const transport = new FabricTransport(options, events, new WireTraffic());
  try {
    await transport.open();
  } catch (error) {
    await transport.stop(0);
    throw error;
  }
  return transport;
}

const METHODS = { probe: "Probe", probeIndirect: "ProbeIndirect", pushPull: "PushPull" } as const satisfies Record<
  CallRequest["kind"],
  string
>;
const CHECK_MS = 250;

interface Answer {
  readonly bytes: Uint8Array;
  readonly identity: PeerIdentity;
}

interface DialTls {
  readonly context: SecureContext;
  readonly trustDomain: string;
}

/** It travels in a header. */
function checkToken(token: string): void {
  if (!/^[\x21-\x7e]*$/.test(token)) throw new Error("the cluster token must be printable ASCII without spaces");
}

export class FabricTransport {
  readonly traffic: WireTraffic;
  readonly #options: TransportOptions;
  readonly #events: TransportEvents;
  readonly #limits: TransportLimits;
  readonly #listener: FabricListener;
  readonly #pool: CallPool;
  readonly #links = new Map<LinkId, LinkStream>();
  /** Links of ours that are not open yet. */
  readonly #dials = new Map<LinkId, Dial>();
  /** Those of `#links` that we opened. */
  readonly #outgoing = new Set<LinkStream>();
  readonly #timer: NodeJS.Timeout;
  #tls: DialTls | undefined;
  #clusterToken: string;
  #nextLink = 1;

  constructor(options: TransportOptions, events: TransportEvents, traffic: WireTraffic) {
    this.traffic = traffic;
    this.#options = options;
    this.#events = events;
    this.#limits = options.limits ?? TRANSPORT_LIMITS;
    this.#clusterToken = options.clusterToken;
    this.#tls = options.tls === undefined ? undefined : dialTls(options.tls);
    this.#pool = new CallPool(this.#limits, {
      dial: (address, timeoutMs) => this.#dial(address, timeoutMs),
      token: () => this.#token(),
    });
    const listened = {
      asked: (call: CallId, request: CallRequest, identity: PeerIdentity) => events.asked(call, request, identity),
      isStranger: (identity: PeerIdentity) => events.isStranger(identity),
      linked: (stream: LinkStream, identity: PeerIdentity) => this.#linked(stream, identity),
      refused: (why: string, address: string) => events.refused(why, address),
    };
    this.#listener = new FabricListener({ ...options, traffic, limits: this.#limits }, listened);
    this.#timer = setInterval(() => this.#check(patientDueMs()), CHECK_MS).unref();
  }

  open(): Promise<void> {
    return this.#listener.open();
  }

  /** As bound, `host:port`. */
  get address(): string {
    return this.#listener.acceptor?.address ?? "";
  }

  get port(): number {
    return this.#listener.acceptor?.port ?? 0;
  }

  /** What is open now, and what was not called because of a bound. Only tests look at links, calls, channels and bytes. */
  counts() {
    const { channelCount, refusedCount } = this.#pool;
    return { ...this.#listener.counts(), outgoingLinks: this.#outgoing.size, channels: channelCount, refusedCalls: refusedCount };
  }

  /** Connections from now on use these certificates; open ones keep theirs. Throws when they do not fit, and keeps the old ones. */
  setTls(tls: FabricTls): void {
    const next = dialTls(tls);
    this.#listener.setTls(tls);
    this.#tls = next;
    this.#pool.renew();
  }

  /** Calls from now on show this token. Throws when it can be none, and keeps the old one. */
  setClusterToken(token: string): void {
    checkToken(token);
    this.#clusterToken = token;
  }

  /** Asks another node; `answered` comes exactly once. */
  call(call: CallId, to: string, request: CallRequest, timeoutMs: number): void {
    const { kind } = request;
    const bytes = encodeCallRequest(request);
    this.traffic.count("sent", kind, bytes.length);
    this.#pool.call({ to, method: METHODS[kind], bytes, timeoutMs }, (answer, failure) => {
      // A probe that fails says nothing new; whoever cannot join wants to know why.
      if (failure !== undefined && kind === "pushPull") this.#events.unanswered(to, failure);
      const read = answer === undefined ? undefined : this.#read(kind, answer);
      if (read?.response !== undefined) return this.#events.answered(call, read.response);
      this.#events.answered(call, undefined, read?.refusal ?? (failure?.isRefused === true ? failure.why : undefined));
    });
  }

  answer(call: CallId, response: CallResponse | undefined, why?: string): void {
    this.#listener.answer(call, response, why);
  }

  /** Opens a link; `opened` or `closed` comes. */
  openLink(link: LinkId, to: string): void {
    const started = patientNowMs();
    const dialled = this.#dial(to, this.#limits.openTimeoutMs);
    this.#dials.set(link, dialled);
    const greet = (found: Dialled) => this.#greet(link, found, this.#limits.openTimeoutMs - (patientDueMs() - started));
    dialled.done.then(greet, (error: Error) => this.#neverOpened(link, error.message));
  }

  /** There is something to `pull` for a link. */
  wake(link: LinkId): void {
    this.#links.get(link)?.wake();
  }

  /** Sends what `pull` still has, then ends the link; `closed` comes. */
  closeLink(link: LinkId): void {
    this.#links.get(link)?.close();
    this.#dials.get(link)?.cancel();
  }

  /** Ends links that are still open, closes the listener, waits at most `deadlineMs`, cuts what is left. */
  async stop(deadlineMs: number): Promise<void> {
    for (const dialled of this.#dials.values()) dialled.cancel();
    for (const link of this.#links.values()) link.close();
    await this.#listener.stop(deadlineMs);
    for (const link of this.#links.values()) link.destroy("stopped");
    this.#pool.renew();
    this.#options.guard.stop();
    clearInterval(this.#timer);
  }

  #check(dueMs: number): void {
    this.#listener.check(dueMs);
    for (const link of this.#outgoing) link.check(dueMs);
    this.#pool.sweep(dueMs);
  }

  #dial(address: string, timeoutMs: number): Dial {
    return dial({ address, tls: this.#tls, isInsecure: this.#options.isInsecure, timeoutMs });
  }

  /** A token is shown where no certificate says who asks. */
  #token(): string {
    return this.#tls === undefined ? this.#clusterToken : "";
  }

  #read(kind: CallRequest["kind"], { bytes, identity }: Answer): { readonly response?: CallResponse; readonly refusal?: string } {
    let refusal: string;
    try {
      const response = decodeCallResponse(kind, bytes);
      this.traffic.count("received", kind, bytes.length);
      if (response.kind === "probeIndirect" || identity.certificate === undefined) return { response };
      const { nodeId, clusterId } = identity.certificate;
      const { from } = response;
      if (nodeId === from.nodeId && (from.clusterId ?? clusterId) === clusterId)
        return { response: { ...response, from: { ...from, clusterId } } };
      const said = `${from.nodeId} of ${from.clusterId ?? "no cluster"}`;
      refusal = `${said} answered with the certificate of ${nodeId} of ${clusterId}`;
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      refusal = error.message;
    }
    this.#events.refused(`${kind}: ${refusal}`, identity.address);
    return { refusal };
  }

  /** Asks for the stream; it is open when the other side's headers are here. */
  #greet(link: LinkId, { session, identity }: Dialled, leftMs: number): void {
    if (session.destroyed || session.closed) return this.#neverOpened(link, `${identity.address}: connection closed`);
    const stream = session.request(callHeaders("Link", "", undefined), { endStream: false });
    let refusal = "no answer in time";
    const timer = patientTimeout(() => session.destroy(), Math.max(0, leftMs));
    stream.on("error", (error: Error) => {
      refusal = error.message;
    });
    const fail = () => {
      timer.clear();
      session.destroy();
      this.#neverOpened(link, `${identity.address}: ${refusal}`);
    };
    stream.once("close", fail);
    stream.once("response", (headers) => {
      if (headers[":status"] !== 200 || headers["grpc-status"] !== undefined) {
        refusal = `refused (${detailField(String(headers["grpc-message"] ?? headers[":status"]), MESSAGE_BOUNDS)})`;
        session.destroy();
        return;
      }
      timer.clear();
      stream.off("close", fail);
      if (this.#dials.delete(link)) this.#opened(link, stream, identity);
      else session.destroy();
    });
  }

  #neverOpened(link: LinkId, detail: string): void {
    if (this.#dials.delete(link)) this.#events.closed(link, detail);
  }

  #opened(link: LinkId, stream: ConstructorParameters<typeof LinkStream>[0], identity: PeerIdentity): void {
    const { maxMessageBytes } = this.#limits;
    const bounds = { maxMessageBytes, maxBufferedBytes: 2 * maxMessageBytes, bufferedBytes: 0 };
    const events = this.#eventsOf(link, (closed) => this.#outgoing.delete(closed));
    const opened = new LinkStream(stream, { events, limits: this.#limits, traffic: this.traffic, bounds });
    const { session } = stream;
    stream.once("close", () => session?.close());
    this.#links.set(link, opened);
    this.#outgoing.add(opened);
    this.#events.opened(link, false, identity);
  }

  #linked(stream: LinkStream, identity: PeerIdentity): LinkedEvents {
    const link = this.#nextLink;
    this.#nextLink += 2;
    this.#links.set(link, stream);
    return { ...this.#eventsOf(link, () => {}), opened: () => this.#events.opened(link, true, identity) };
  }

  #eventsOf(link: LinkId, forget: (stream: LinkStream) => void): LinkEvents {
    return {
      received: (frame) => this.#events.received(link, frame),
      pull: () => this.#events.pull(link),
      closed: (detail) => {
        const stream = this.#links.get(link);
        this.#links.delete(link);
        if (stream !== undefined) forget(stream);
        this.#events.closed(link, detail);
      },
    };
  }
}

function dialTls({ cert, key, clientCa }: FabricTls): DialTls {
  const context = createSecureContext({ cert: Buffer.from(cert), key: Buffer.from(key), ca: Buffer.from(clientCa), minVersion: "TLSv1.2" });
  return { context, trustDomain: trustDomainOf(cert) };
}
