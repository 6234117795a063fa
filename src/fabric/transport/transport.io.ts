/** The fabric's sockets: the listener for other nodes, and links and calls to them. It does not make any decisions about the fabric. */

import { X509Certificate } from "node:crypto";
import { createSecureContext } from "node:tls";
import type { CallResult } from "../../grpc/client/client-call.ts";
import type { ClientConnection } from "../../grpc/client/connection.io.ts";
import { ConnectionPool } from "../../grpc/client/pool.io.ts";
import type { AssemblyBounds } from "../../grpc/wire/message-reader.ts";
import { GrpcMetadata } from "../../grpc/wire/metadata.ts";
import { isLoopbackHost } from "../../lib/addresses.ts";
import { stallAwareDueMs, stallAwareNowMs, stallAwareTimeout } from "../../lib/stall-aware-time.io.ts";
import type { CallId, LinkId } from "../io-types.ts";
import { isPlaintextAllowed, nodeOfCertificate, tokenToShow } from "../links/peer-auth.ts";
import { encodeCallRequest, pathOf } from "../wire/call-codec.ts";
import type { FabricCallRequest, FabricCallResponse, LinkFrame, PeerIdentity } from "../wire/messages.ts";
import { detailField } from "../wire/messages.ts";
import { gateOf } from "./border-gate.ts";
import { outcomeOf, type PeerCallFailure, type PeerCallOutcome } from "./call-failure.ts";
import { type DialResult, type DialTls, dial, type PendingDial } from "./dial.io.ts";
import type { LinkedEvents } from "./incoming-links.ts";
import { clientLimits, TRANSPORT_LIMITS, type TransportLimits } from "./limits.ts";
import { type LinkEvents, LinkStream, type StreamClock, TOKEN_HEADER, WireTraffic } from "./link-stream.ts";
import { cutAfter, FabricListener, type ListenerOptions } from "./listener.io.ts";
import { acceptedPeers, type FabricTls, whyRevoked } from "./peer-identity.io.ts";

/**
 * Events for the state machine, with ids as defined in `fabric/io-types.ts`. `stop` is the only method of the transport that may emit events before
 * it returns.
 */
export interface TransportEvents {
  requested(call: CallId, request: FabricCallRequest, identity: PeerIdentity): void;
  /** Whether a peer with this identity is refused, regardless of the request. */
  isStranger(identity: PeerIdentity): boolean;
  answered(call: CallId, response: FabricCallResponse | undefined, failed: Pick<PeerCallOutcome, "hasEnded" | "refusal">): void;
  opened(link: LinkId, isIncoming: boolean, identity: PeerIdentity): void;
  received(link: LinkId, frame: LinkFrame): void;
  /** Returns the next frame for a link, or undefined when there is none now. */
  pull(link: LinkId): LinkFrame | undefined;
  closed(link: LinkId, detail: string): void;
  /** Called when a peer was refused before the state machine received anything from it. */
  refused(why: string, address: string): void;
  /** Called when a node did not answer a request to exchange member tables. */
  unanswered(address: string, failure: PeerCallFailure): void;
}

/** If `tls` is given, connections use mutual TLS. Otherwise, the listener accepts only loopback connections, unless `isInsecure` is set. */
export interface TransportOptions extends Pick<ListenerOptions, "host" | "joinEndpoint" | "onCut" | "port" | "tls"> {
  readonly isInsecure: boolean;
  /** Sent with each call on plaintext connections, unless empty. Links send it in their hello. */
  readonly clusterToken: string;
  readonly limits?: TransportLimits | undefined;
}

/** Opens the listener and starts serving. Rejects with a message for operators if it cannot bind, or if the settings do not allow it. */
export async function openFabricTransport(options: TransportOptions, events: TransportEvents): Promise<FabricTransport> {
  if (options.tls === undefined && !isPlaintextAllowed({ isLoopback: isLoopbackHost(options.host) }, options.isInsecure))
    throw new Error(
      `the fabric listener on ${options.host} would accept unauthenticated nodes: configure fabric certificates, or pass --insecure if the network is trusted`,
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

const CHECK_MS = 250;

const CLOCK: StreamClock = { stallAwareMs: stallAwareNowMs, monoMs: () => performance.now(), defer: setImmediate };

/** The token is sent in a header. */
function checkToken(token: string): void {
  if (!/^[\x21-\x7e]*$/.test(token)) throw new Error("the cluster token must be printable ASCII without spaces");
}

export class FabricTransport {
  readonly traffic: WireTraffic;
  readonly #options: TransportOptions;
  readonly #events: TransportEvents;
  readonly #limits: TransportLimits;
  readonly #listener: FabricListener;
  readonly #pool: ConnectionPool;
  /** For connections that carry calls: the identity of the other side, and the limits for answers that have not fully arrived. */
  readonly #identities = new WeakMap<ClientConnection, PeerIdentity>();
  readonly #answerBounds: AssemblyBounds;
  readonly #links = new Map<LinkId, LinkStream>();
  /** Outgoing links that are not open yet. */
  readonly #dials = new Map<LinkId, PendingDial>();
  /** Outgoing links in `#links`, with their connections. */
  readonly #outgoing = new Map<LinkStream, DialResult>();
  readonly #timer: NodeJS.Timeout;
  #tls: DialTls | undefined;
  /** TLS options for links to the nodes of each border, keyed by cluster. */
  #borderTls: ReadonlyMap<string, DialTls>;
  #clusterToken: string;
  #nextLink = 1;

  constructor(options: TransportOptions, events: TransportEvents, traffic: WireTraffic) {
    this.traffic = traffic;
    this.#options = options;
    this.#events = events;
    this.#limits = options.limits ?? TRANSPORT_LIMITS;
    this.#clusterToken = options.clusterToken;
    this.#tls = options.tls === undefined ? undefined : dialTls(options.tls);
    this.#borderTls = borderTls(options.tls);
    const { maxMessageBytes, maxChannels, maxCalls, idleMs } = this.#limits;
    this.#answerBounds = { maxMessageBytes, maxBufferedBytes: 4 * maxMessageBytes, bufferedBytes: 0 };
    this.#pool = new ConnectionPool({ maxConnections: maxChannels, maxCalls, idleMs }, (...to) => this.#dialForCalls(...to));
    const listened = {
      requested: (call: CallId, request: FabricCallRequest, identity: PeerIdentity) => events.requested(call, request, identity),
      isStranger: (identity: PeerIdentity) => events.isStranger(identity),
      linked: (stream: LinkStream, identity: PeerIdentity) => this.#linked(stream, identity),
      refused: (why: string, address: string) => events.refused(why, address),
    };
    this.#listener = new FabricListener({ ...options, traffic, limits: this.#limits, clock: CLOCK }, listened);
    this.#timer = setInterval(() => this.#check(stallAwareDueMs()), CHECK_MS).unref();
  }

  open(): Promise<void> {
    return this.#listener.open();
  }

  /** The bound address, `host:port`. */
  get address(): string {
    return this.#listener.acceptor?.address ?? "";
  }

  get port(): number {
    return this.#listener.acceptor?.port ?? 0;
  }

  /**
   * Open resources, and the number of calls that were refused locally because of a limit. The counts of links, calls, channels, and bytes are used
   * only by tests.
   */
  counts() {
    const connections = this.#listener.acceptor?.sockets.size ?? 0;
    const { connections: channels, refused: refusedCalls } = this.#pool.counts();
    return { ...this.#listener.service.counts(), connections, outgoingLinks: this.#outgoing.size, channels, refusedCalls };
  }

  /**
   * Replaces the certificates for new connections. Open connections keep theirs, but those with a revoked certificate are closed. Throws, and keeps
   * the old certificates, if the new ones are invalid.
   */
  setTls(tls: FabricTls): void {
    const [next, borders] = [dialTls(tls), borderTls(tls)];
    this.#listener.setTls(tls);
    this.#tls = next;
    this.#borderTls = borders;
    this.#pool.renew();
    for (const { connection, identity } of this.#outgoing.values()) {
      const why = whyRevoked(identity, next.accepted);
      if (why === undefined) continue;
      this.#events.refused(why, identity.address);
      connection.destroy();
    }
  }

  /** Replaces the token for new calls. Throws, and keeps the old token, if the new one is invalid. */
  setClusterToken(token: string): void {
    checkToken(token);
    this.#clusterToken = token;
  }

  /** Calls another node. `answered` is called exactly once. */
  call(call: CallId, to: string, request: FabricCallRequest, timeoutMs: number): void {
    const { kind } = request;
    const bytes = encodeCallRequest(request);
    this.traffic.count("sent", kind, bytes.length);
    const token = tokenToShow(this.#tls !== undefined, this.#clusterToken);
    const metadata = token === "" ? undefined : new GrpcMetadata().add(TOKEN_HEADER, token);
    this.#pool.call({ address: to, path: pathOf(kind), message: bytes, metadata, timeoutMs }, (answer) => {
      const { connection, message } = answer;
      const identity = connection === undefined ? undefined : this.#identities.get(connection);
      if (message !== undefined) this.traffic.count("received", kind, message.length);
      const { response, refusal, hasEnded, isStranger, failure } = outcomeOf(kind, answer, identity);
      if (failure !== undefined) this.#events.unanswered(to, failure);
      if (isStranger === true) this.#events.refused(`${kind}: ${refusal}`, identity?.address ?? to);
      this.#events.answered(call, response, { ...(refusal !== undefined && { refusal }), ...(hasEnded && { hasEnded }) });
    });
  }

  answer(call: CallId, response: FabricCallResponse | undefined, why?: string): void {
    this.#listener.service.answer(call, response, why);
  }

  /** Opens a link. If `border` is given, the link goes to a node of that border. The method then calls `opened`, or `closed` if the link could not be opened. */
  openLink(link: LinkId, to: string, border?: string): void {
    const started = stallAwareNowMs();
    const tls = border === undefined ? this.#tls : this.#borderTls.get(border);
    // A border without a CA is identified by its token, which is allowed only on plaintext connections within this machine.
    if (tls === undefined && this.#tls !== undefined)
      return void setImmediate(() => this.#events.closed(link, `no CA is configured for border ${border ?? ""}`));
    const connection = { limits: clientLimits(this.#limits) };
    const isInsecure = border === undefined && this.#options.isInsecure;
    const dialled = dial({ address: to, tls, isInsecure, timeoutMs: this.#limits.openTimeoutMs, connection });
    this.#dials.set(link, dialled);
    const greet = (found: DialResult) => this.#greet(link, found, this.#limits.openTimeoutMs - (stallAwareDueMs() - started));
    dialled.done.then(greet, (error: Error) => this.#neverOpened(link, error.message));
  }

  /** Called when there is something to `pull` for a link. */
  wake(link: LinkId): void {
    this.#links.get(link)?.wake();
  }

  /** Sends the remaining frames from `pull`, then ends the link. `closed` is called. */
  closeLink(link: LinkId): void {
    this.#links.get(link)?.close();
    this.#dials.get(link)?.cancel();
  }

  /** Stops reading from the link for this time, ±0.25 s. */
  restLink(link: LinkId, forMs: number): void {
    this.#links.get(link)?.rest(forMs);
  }

  /** Ends open links, closes the listener, waits for at most `deadlineMs`, and then closes the remaining connections. */
  async stop(deadlineMs: number): Promise<void> {
    for (const dialled of this.#dials.values()) dialled.cancel();
    for (const link of this.#links.values()) link.close();
    await this.#listener.stop(deadlineMs);
    for (const link of this.#links.values()) link.destroy("stopped");
    this.#pool.renew();
    clearInterval(this.#timer);
  }

  #check(dueMs: number): void {
    this.#listener.service.check(dueMs);
    for (const link of this.#outgoing.keys()) link.check(dueMs);
    this.#pool.sweep(dueMs);
  }

  #dialForCalls(address: string, timeoutMs: number, onLeaving: () => void) {
    const given = { limits: clientLimits(this.#limits), bounds: this.#answerBounds, onLeaving };
    const dialled = dial({ address, tls: this.#tls, isInsecure: this.#options.isInsecure, timeoutMs, connection: given });
    const known = ({ connection, identity }: DialResult) => {
      this.#identities.set(connection, identity);
      return connection;
    };
    return { done: dialled.done.then(known), cancel: () => dialled.cancel() };
  }

  /** Requests the stream. The link is open when the other side's headers arrive. */
  #greet(link: LinkId, { connection, identity }: DialResult, leftMs: number): void {
    let opened: LinkStream | undefined;
    const fail = (why: string) => {
      timer.clear();
      connection.destroy();
      this.#neverOpened(link, `${identity.address}: ${why}`);
    };
    const timer = stallAwareTimeout(() => fail("no response arrived in time"), Math.max(0, leftMs));
    const call = connection.start(
      { path: pathOf("link"), isSingleResponse: false },
      {
        metadata: () => {
          timer.clear();
          if (!this.#dials.delete(link)) return connection.destroy();
          const port = {
            send: (frame: Uint8Array, accepted: () => void) =>
              void call.writeFrame(frame, (error) => (error ?? undefined) === undefined && accepted()),
            end: () => call.halfClose(),
            cut: (afterMs: number) => cutAfter(afterMs, connection),
            pause: () => call.pause(),
            resume: () => call.resume(),
          };
          const events = this.#eventsOf(link, (closed) => this.#outgoing.delete(closed));
          opened = new LinkStream({ port, events, limits: this.#limits, traffic: this.traffic, clock: CLOCK });
          this.#links.set(link, opened);
          this.#outgoing.set(opened, { connection, identity });
          this.#events.opened(link, false, identity);
        },
        message: (bytes) => opened?.message(bytes),
        closed: (result) => {
          if (opened === undefined) return fail(whyNotOpened(result));
          connection.close();
          opened.ended(result);
        },
      },
    );
  }

  #neverOpened(link: LinkId, detail: string): void {
    if (this.#dials.delete(link)) this.#events.closed(link, detail);
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

function whyNotOpened({ isFromServer, status: { message } }: CallResult): string {
  return isFromServer ? `refused (${detailField(message)})` : message;
}

function dialTls(tls: FabricTls, accepted = acceptedPeers(tls)): DialTls {
  const { cert, key, clientCa, crls } = tls;
  const revoked = crls === undefined ? {} : { crl: crls.map((list) => Buffer.from(list)) };
  const own = { cert: Buffer.from(cert), key: Buffer.from(key) };
  const context = createSecureContext({ ...own, ca: Buffer.from(clientCa), ...revoked, minVersion: "TLSv1.3" });
  return { context, accepted, endsWallMs: new X509Certificate(own.cert).validToDate.getTime() };
}

function borderTls(tls: FabricTls | undefined): ReadonlyMap<string, DialTls> {
  if (tls?.borders === undefined) return new Map();
  const own = nodeOfCertificate(new X509Certificate(tls.cert).subjectAltName ?? "");
  const gate = gateOf(own?.clusterId ?? "");
  return new Map(
    tls.borders.map((authority) => {
      const dialled = dialTls({ ...tls, clientCa: authority.ca, crls: undefined });
      return [authority.clusterId, { ...dialled, border: { authority, gate } }];
    }),
  );
}
