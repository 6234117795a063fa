/**
 * The network between simulated nodes. A unary call is a datagram there and one back; a lost one times out. A link is a FIFO that stalls
 * or breaks, as a stream on TCP does: a lost packet is the delay of a retransmission. With `isUnruly` the network also drops, doubles and
 * reorders replication frames, which TCP would not do and the protocol must survive.
 */
import type { FabricCallRequest, FabricCallResponse, LinkFrame, PeerIdentity } from "../../src/fabric/wire/messages.ts";
import type { Rng } from "../../src/lib/rng.ts";
import type { Packed, Wire } from "./wire.ts";
import type { World } from "./world.ts";

/** The state of one direction between two hosts. */
export interface Weather {
  delayMs: number;
  jitterMs: number;
  /** Chance of each packet to be lost, 0 to 1. */
  loss: number;
  /** Chance of each packet to come twice. */
  duplicate: number;
  /** Chance of each packet to come late enough to be overtaken. */
  reorder: number;
  bytesPerSecond: number;
}

export const FAIR: Weather = { delayMs: 2, jitterMs: 1, loss: 0, duplicate: 0, reorder: 0, bytesPerSecond: 50_000_000 };

/** A host on the network, with the node process that runs on it now. */
export interface Host {
  readonly index: number;
  readonly address: string;
  /** Counts processes. What was meant for an earlier one is not delivered. */
  readonly life: number;
  /** Whether a process listens. */
  readonly isUp: boolean;
  /** Whether the host is gone without a word. Nothing is refused then, and everything times out. */
  readonly isSilent: boolean;
  readonly identity: { readonly nodeId: string; readonly clusterId: string };
  readonly clusterToken: string;
  asked(request: FabricCallRequest, proof: PeerIdentity, answer: (response: FabricCallResponse | undefined) => void): void;
  answered(call: number, response: FabricCallResponse | undefined): void;
  opened(link: number, isIncoming: boolean, proof: PeerIdentity): void;
  /** `isTaken` is called when the process has read the frame. `isCopy`: the network doubled it. */
  received(link: number, frame: LinkFrame, isTaken: () => void, isCopy: boolean): void;
  closed(link: number, detail: string): void;
  pull(link: number): LinkFrame | undefined;
}

/** Bytes and messages that left a host. */
export interface Traffic {
  calls: number;
  callBytes: number;
  frames: number;
  frameBytes: number;
  /** Bytes of encoded link messages by kind, without the headers of packets. */
  readonly byKind: Map<LinkFrame["kind"], number>;
}

export interface NetworkOptions {
  readonly isUnruly: boolean;
  /** A stream breaks when its peer is silent for this long, as by keepalive. */
  readonly breakAfterMs: number;
  /** Bytes of one stream under way at once. */
  readonly windowBytes: number;
}

export const NETWORK_OPTIONS: NetworkOptions = { isUnruly: false, breakAfterMs: 15_000, windowBytes: 256 * 1024 };

/** About the time of TCP's first retransmission. */
const RETRANSMIT_MS = 200;
/** The worst that several faults at once do to a stream. */
const MAX_RETRANSMIT_MS = 5000;
const MAX_LOSS = 0.4;
/** The headers that a packet adds to a message. */
const HEADER_BYTES = 60;
const PACKET_BYTES = 1400;

interface End {
  readonly host: Host;
  readonly life: number;
  link: number;
  /** Whether the other end knows of it. */
  isOpen: boolean;
  /** Whether nothing more is pulled, because it has said goodbye or is gone. */
  isOver: boolean;
  /** Bytes in flight from this end to the other. */
  flightBytes: number;
  lastArrivalMs: number;
  /** Frames that were on their way when the direction was cut. They arrive when it is healed. */
  stalled: (() => void)[];
  /** This end is not read before then; what has come meanwhile waits. */
  restMs: number;
  unread: (() => void)[];
}

interface Stream {
  readonly id: number;
  readonly ends: readonly [End, End];
  isGone: boolean;
}

export class Network {
  readonly #world: World;
  readonly #rng: Rng;
  readonly #wire: Wire;
  readonly #options: NetworkOptions;
  readonly #hosts = new Map<string, Host>();
  readonly #byIndex: Host[] = [];
  readonly #weather: Weather[][] = [];
  /** How many cuts are on each direction. */
  readonly #cuts: number[][] = [];
  /** Streams by host and link number of the end there. Those of a process that is gone are removed with it. */
  readonly #streams: Map<number, Stream>[] = [];
  readonly #open = new Set<Stream>();
  #nextStream = 0;
  #nextIncoming = 1;
  readonly traffic: Traffic[] = [];
  /** Called with each frame that leaves a host, and its bytes with the headers of packets. Returns whether it arrives. */
  onFrame: (from: number, to: number, frame: LinkFrame, sizeBytes: number) => boolean = () => true;

  constructor(parts: { world: World; rng: Rng; wire: Wire }, options: NetworkOptions = NETWORK_OPTIONS) {
    this.#world = parts.world;
    this.#rng = parts.rng;
    this.#wire = parts.wire;
    this.#options = options;
  }

  add(host: Host, weatherTo: (other: number) => Weather): void {
    this.#hosts.set(host.address, host);
    this.#byIndex[host.index] = host;
    this.traffic[host.index] = { calls: 0, callBytes: 0, frames: 0, frameBytes: 0, byKind: new Map() };
    this.#cuts[host.index] = [];
    this.#streams[host.index] = new Map();
    this.#weather[host.index] = [];
    for (const other of this.#byIndex) {
      if (other === undefined) continue;
      this.#setWeather(host.index, other.index, { ...weatherTo(other.index) });
      this.#setWeather(other.index, host.index, { ...weatherTo(other.index) });
    }
  }

  weather(from: number, to: number): Weather {
    return this.#weather[from]?.[to] ?? FAIR;
  }

  /** Every direction there is. */
  allWeather(): readonly Weather[] {
    return this.#weather.flatMap((row) => row.filter((weather) => weather !== undefined));
  }

  #setWeather(from: number, to: number, weather: Weather): void {
    const row = this.#weather[from] ?? [];
    row[to] = weather;
    this.#weather[from] = row;
  }

  isCut(from: number, to: number): boolean {
    return (this.#cuts[from]?.[to] ?? 0) > 0;
  }

  /** Cuts a direction once more; streams on it stall, and break when that lasts. */
  cut(from: number, to: number): void {
    const row = this.#cuts[from] ?? [];
    row[to] = (row[to] ?? 0) + 1;
    this.#cuts[from] = row;
    for (const stream of this.#open) if (isBetween(stream, from, to)) this.#watch(stream);
  }

  heal(from: number, to: number): void {
    const row = this.#cuts[from] ?? [];
    row[to] = Math.max(0, (row[to] ?? 0) - 1);
    if (row[to] > 0) return;
    for (const stream of this.#open) {
      for (const end of stream.ends) {
        const other = otherEnd(stream, end);
        if (end.host.index !== from || other.host.index !== to || end.stalled.length === 0) continue;
        // What arrives until then waits behind them.
        this.#world.after(RETRANSMIT_MS, () => {
          for (const run of end.stalled.splice(0)) run();
        });
      }
    }
  }

  healAll(): void {
    this.#byIndex.forEach((_, from) => {
      this.#byIndex.forEach((_other, to) => {
        const row = this.#cuts[from];
        if (row !== undefined && (row[to] ?? 0) > 0) {
          row[to] = 1;
          this.heal(from, to);
        }
      });
    });
  }

  // ---- unary calls ----

  call(from: Host, asked: { call: number; to: string; request: FabricCallRequest; timeoutMs: number }): void {
    const { life } = from;
    let isDone = false;
    const finish = (response: FabricCallResponse | undefined) => {
      if (isDone || from.life !== life || !from.isUp) return;
      isDone = true;
      from.answered(asked.call, response);
    };
    this.#world.after(asked.timeoutMs, () => finish(undefined));
    const host = this.#hosts.get(asked.to);
    const request = this.#wire.request(asked.request);
    this.#countCall(from, request.sizeBytes);
    if (host === undefined) return;
    this.#packet(from, host, request.sizeBytes, () => {
      if (!host.isUp) {
        if (!host.isSilent) this.#packet(host, from, HEADER_BYTES, () => finish(undefined));
        return;
      }
      const hostLife = host.life;
      host.asked(request.open(), peerIdentityOf(from), (response) => {
        if (host.life !== hostLife || !host.isUp) return;
        if (response === undefined) {
          this.#packet(host, from, HEADER_BYTES, () => finish(undefined));
          return;
        }
        const back = this.#wire.response(response);
        this.#countCall(host, back.sizeBytes);
        this.#packet(host, from, back.sizeBytes, () => finish(back.open()));
      });
    });
  }

  #countCall(host: Host, size: number): void {
    const traffic = this.traffic[host.index];
    if (traffic === undefined) return;
    traffic.calls += 1;
    traffic.callBytes += size + HEADER_BYTES;
  }

  /** One datagram: it may be lost, come twice, or late. */
  #packet(from: Host, to: Host, size: number, arrive: () => void): void {
    const weather = this.weather(from.index, to.index);
    if (this.isCut(from.index, to.index) || this.#isLost(weather)) return;
    const go = () => {
      const late = this.#rng.next() < weather.reorder ? 5 * (weather.delayMs + weather.jitterMs) : 0;
      const delayMs = this.#delay(weather, size) + late;
      this.#world.after(delayMs, () => {
        if (!this.isCut(from.index, to.index)) arrive();
      });
    };
    go();
    if (weather.duplicate > 0 && this.#rng.next() < weather.duplicate) go();
  }

  #isLost({ loss }: Weather): boolean {
    return this.#rng.next() < Math.min(loss, MAX_LOSS);
  }

  #delay(weather: Weather, size: number): number {
    return weather.delayMs + this.#rng.next() * weather.jitterMs + ((size + HEADER_BYTES) * 1000) / weather.bytesPerSecond;
  }

  // ---- links ----

  /** `isBorder`: the link is for a border, whose token counts on loopback only. */
  open(from: Host, link: number, to: string, isBorder = false): void {
    const host = this.#hosts.get(to);
    const refuse = (delayMs: number, detail: string) => {
      const { life } = from;
      this.#world.after(delayMs, () => {
        if (from.life === life && from.isUp) from.closed(link, detail);
      });
    };
    if (host === undefined) {
      refuse(5, "no such address");
      return;
    }
    const weather = this.weather(from.index, host.index);
    const roundMs = 2 * this.#delay(weather, 0) + this.#retransmits(weather);
    const isCut = this.isCut(from.index, host.index) || this.isCut(host.index, from.index);
    if (isCut || (!host.isUp && host.isSilent)) {
      refuse(5000, "timeout");
      return;
    }
    const { life } = from;
    this.#world.after(roundMs, () => {
      if (from.life !== life || !from.isUp) return;
      if (!host.isUp) {
        refuse(0, "refused");
        return;
      }
      const stream = this.#makeStream(from, link, host);
      const [a, b] = stream.ends;
      b.isOpen = true;
      host.opened(b.link, true, peerIdentityOf(from, isBorder));
      this.#pump(stream, b);
      this.#world.after(this.#delay(weather, 0), () => {
        if (stream.isGone) return;
        a.isOpen = true;
        from.opened(link, false, peerIdentityOf(host, isBorder));
        this.#pump(stream, a);
      });
    });
  }

  #makeStream(from: Host, link: number, host: Host): Stream {
    const endOf = (at: Host, number: number): End => ({
      host: at,
      life: at.life,
      link: number,
      isOpen: false,
      isOver: false,
      flightBytes: 0,
      lastArrivalMs: 0,
      stalled: [],
      restMs: 0,
      unread: [],
    });
    // Incoming links have odd numbers, as in the product.
    const incoming = this.#nextIncoming;
    this.#nextIncoming += 2;
    const stream: Stream = { id: this.#nextStream++, ends: [endOf(from, link), endOf(host, incoming)], isGone: false };
    for (const end of stream.ends) this.#streams[end.host.index]?.set(end.link, stream);
    this.#open.add(stream);
    return stream;
  }

  /** The node has something to send on the link. */
  send(host: Host, link: number): void {
    const stream = this.#streams[host.index]?.get(link);
    const end = stream?.ends.find((one) => one.host === host && one.link === link);
    if (stream !== undefined && end !== undefined) this.#pump(stream, end);
  }

  /** What is still to be pulled goes out, then the stream ends. */
  close(host: Host, link: number): void {
    const stream = this.#streams[host.index]?.get(link);
    const end = stream?.ends.find((one) => one.host === host && one.link === link);
    if (stream === undefined || end === undefined) {
      return;
    }
    this.#pump(stream, end, Number.POSITIVE_INFINITY);
    end.isOver = true;
    const other = otherEnd(stream, end);
    const { weather, isCut } = this.#way(end, other);
    this.#streams[host.index]?.delete(link);
    const arrive = () => this.#end(stream, other, "closed by the peer");
    const atMs = Math.max(end.lastArrivalMs, this.#world.nowMs + this.#delay(weather, 0));
    if (isCut) end.stalled.push(arrive);
    else this.#world.at(atMs, arrive);
    if (isCut) this.#watch(stream);
  }

  /** A process is gone: its peers hear of it, at once when the machine still answers, else by keepalive. */
  hostDown(host: Host): void {
    for (const stream of this.#open) {
      const end = stream.ends.find((one) => one.host === host);
      if (end === undefined) continue;
      end.isOver = true;
      this.#streams[host.index]?.delete(end.link);
      const other = otherEnd(stream, end);
      const { weather, isCut } = this.#way(end, other);
      const delayMs = host.isSilent || isCut ? this.#options.breakAfterMs : this.#delay(weather, 0);
      const atMs = Math.max(end.lastArrivalMs, this.#world.nowMs + delayMs);
      this.#world.at(atMs, () => this.#end(stream, other, "connection reset"));
    }
  }

  /** Breaks every stream between two hosts. */
  breakLinks(a: number, b: number): void {
    for (const stream of this.#open) if (isBetween(stream, a, b) || isBetween(stream, b, a)) this.#break(stream, "connection lost");
  }

  get openLinks(): number {
    return this.#open.size;
  }

  /** Whether streams connect all of these hosts, by whatever way. */
  isConnected(indexes: readonly number[]): boolean {
    const linked = new Map<number, number[]>();
    for (const { ends } of this.#open) {
      const [a, b] = [ends[0].host.index, ends[1].host.index];
      if (!ends[0].isOpen || !ends[1].isOpen || this.isCut(a, b) || this.isCut(b, a)) continue;
      linked.set(a, [...(linked.get(a) ?? []), b]);
      linked.set(b, [...(linked.get(b) ?? []), a]);
    }
    const seen = new Set<number>();
    const next = indexes.slice(0, 1);
    for (let at = next.pop(); at !== undefined; at = next.pop()) {
      if (seen.has(at)) continue;
      seen.add(at);
      next.push(...(linked.get(at) ?? []));
    }
    return indexes.every((index) => seen.has(index));
  }

  /** Every open stream in words, for people. */
  describe(): readonly string[] {
    return [...this.#open].map(({ ends: [a, b] }) =>
      [a, b]
        .map(({ host, link, isOpen, isOver, flightBytes, lastArrivalMs, stalled }) => {
          const state = `${isOpen ? "" : " not open"}${isOver ? " over" : ""}${stalled.length > 0 ? ` ${stalled.length} stalled` : ""}`;
          return `${host.identity.nodeId}:${link} ${flightBytes} B in flight, last there at ${lastArrivalMs.toFixed(0)}${state}`;
        })
        .join(" <> "),
    );
  }

  #way(end: End, other: End): { weather: Weather; isCut: boolean } {
    const [from, to] = [end.host.index, other.host.index];
    return { weather: this.weather(from, to), isCut: this.isCut(from, to) };
  }

  #pump(stream: Stream, end: End, window = this.#options.windowBytes): void {
    const isAlive = () => !stream.isGone && !end.isOver && end.isOpen && end.host.isUp && end.host.life === end.life;
    while (isAlive() && end.flightBytes < window) {
      const frame = end.host.pull(end.link);
      if (frame === undefined) return;
      this.#transmit(stream, end, frame);
    }
  }

  #transmit(stream: Stream, end: End, frame: LinkFrame): void {
    const other = otherEnd(stream, end);
    const { weather } = this.#way(end, other);
    const packed = this.#wire.frame(frame);
    const size = packed.sizeBytes;
    const traffic = this.traffic[end.host.index];
    if (traffic !== undefined) {
      traffic.frames += 1;
      traffic.frameBytes += size + HEADER_BYTES;
      traffic.byKind.set(frame.kind, (traffic.byKind.get(frame.kind) ?? 0) + size);
    }
    const sizeBytes = size + HEADER_BYTES * Math.ceil(Math.max(1, size) / PACKET_BYTES);
    if (!this.onFrame(end.host.index, other.host.index, frame, sizeBytes)) return;
    end.flightBytes += size;
    const isUnruly = this.#options.isUnruly && isReplication(frame);
    if (isUnruly && this.#isLost(weather)) {
      this.#world.after(weather.delayMs, () => this.#landed(stream, end, size));
      return;
    }
    let atMs = this.#world.nowMs + this.#delay(weather, size) + this.#retransmits(weather, size);
    if (isUnruly && this.#rng.next() < weather.reorder) atMs += this.#rng.next() * 10 * (weather.delayMs + weather.jitterMs);
    else {
      atMs = Math.max(atMs, end.lastArrivalMs);
      end.lastArrivalMs = atMs;
    }
    const deliver = (charged: number, isCopy = false) => this.#deliver(stream, end, packed, charged, isCopy);
    this.#world.at(atMs, () => deliver(size));
    if (isUnruly && this.#rng.next() < weather.duplicate)
      this.#world.at(atMs + this.#rng.next() * 20 * (weather.delayMs + 1), () => deliver(0, true));
  }

  #deliver(stream: Stream, end: End, packed: Packed<LinkFrame>, size: number, isCopy: boolean): void {
    if (stream.isGone) return;
    const other = otherEnd(stream, end);
    if (other.isOver || !other.host.isUp || other.host.life !== other.life) return;
    if (this.isCut(end.host.index, other.host.index) || end.stalled.length > 0) {
      end.stalled.push(() => this.#deliver(stream, end, packed, size, isCopy));
      return;
    }
    const read = () => other.host.received(other.link, packed.open(), () => this.#landed(stream, end, size), isCopy);
    if (this.#world.nowMs < other.restMs || other.unread.length > 0) other.unread.push(read);
    else read();
  }

  /** The node does not read the link for so long. */
  rest(host: Host, link: number, forMs: number): void {
    const stream = this.#streams[host.index]?.get(link);
    const end = stream?.ends.find((one) => one.host === host && one.link === link);
    if (stream === undefined || end === undefined) return;
    end.restMs = Math.max(end.restMs, this.#world.nowMs + forMs);
    this.#world.at(end.restMs, () => {
      const isOver = () => stream.isGone || end.isOver || !end.host.isUp || end.host.life !== end.life;
      while (!isOver() && this.#world.nowMs >= end.restMs && end.unread.length > 0) end.unread.shift()?.();
    });
  }

  #landed(stream: Stream, end: End, size: number): void {
    end.flightBytes -= size;
    this.#pump(stream, end);
  }

  /** How long lost packets of a message hold everything behind it up. */
  #retransmits(weather: Weather, size = 0): number {
    if (weather.loss === 0) return 0;
    let delayMs = 0;
    for (let left = size; left >= 0; left -= PACKET_BYTES) {
      // Fast retransmission of all but the last packet of a burst.
      let wait = left > PACKET_BYTES ? 2 * weather.delayMs : Math.max(RETRANSMIT_MS, 4 * weather.delayMs);
      for (let tries = 0; tries < 8 && this.#isLost(weather); tries++) {
        delayMs = Math.min(MAX_RETRANSMIT_MS, Math.max(delayMs, wait));
        wait *= 2;
      }
    }
    return delayMs;
  }

  /** Breaks the stream if the cut on it lasts. */
  #watch(stream: Stream): void {
    this.#world.after(this.#options.breakAfterMs, () => {
      const [a, b] = stream.ends;
      const isCut = this.isCut(a.host.index, b.host.index) || this.isCut(b.host.index, a.host.index);
      if (isCut) this.#break(stream, "keepalive timeout");
    });
  }

  #break(stream: Stream, detail: string): void {
    for (const end of stream.ends) this.#end(stream, end, detail);
  }

  /** Tells an end that the stream is gone. */
  #end(stream: Stream, end: End, detail: string): void {
    const isFirst = !stream.isGone;
    stream.isGone = true;
    this.#open.delete(stream);
    const other = otherEnd(stream, end);
    if (!end.isOver) {
      end.isOver = true;
      this.#streams[end.host.index]?.delete(end.link);
      if (end.host.isUp && end.host.life === end.life) end.host.closed(end.link, detail);
    }
    // Neither end keeps half a stream.
    if (isFirst && !other.isOver) this.#world.after(RETRANSMIT_MS, () => this.#end(stream, other, detail));
  }
}

function otherEnd(stream: Stream, end: End): End {
  return stream.ends[0] === end ? stream.ends[1] : stream.ends[0];
}

function isBetween({ ends: [a, b] }: Stream, from: number, to: number): boolean {
  return (a.host.index === from && b.host.index === to) || (a.host.index === to && b.host.index === from);
}

function peerIdentityOf(host: Host, isBorder = false): PeerIdentity {
  const { address, identity, clusterToken } = host;
  return { address, isLoopback: isBorder, certificate: isBorder ? undefined : identity, clusterToken };
}

function isReplication({ kind }: LinkFrame): boolean {
  return kind === "records" || kind === "vector" || kind === "digests" || kind === "linked";
}

/** The address of a simulated node. */
export function addressOf(index: number): string {
  return `10.0.${index >> 8}.${index & 255}:17421`;
}
