/** One link's HTTP/2 stream, whichever side opened it: frames in as they come, frames out one at a time, and an orderly end. */
import { constants, type Http2Stream } from "node:http2";
import { invalid, WaymarkError } from "../../lib/errors.ts";
import { type AssemblyBounds, framed, MessageAssembler, PREFIX_BYTES } from "../../lib/grpc-frames.ts";
import { patientNowMs } from "../../lib/patient-time.io.ts";
import { decodeLinkFrame, encodeLinkFrame } from "../wire/codec.ts";
import type { LinkFrame } from "../wire/messages.ts";
import { encodeRecords } from "../wire/records-codec.ts";
import type { WireTraffic } from "./traffic.ts";

export interface LinkLimits {
  /** A quiet link is pinged after this. */
  readonly keepaliveTimeMs: number;
  /** A ping unanswered for so long ends the link. */
  readonly keepaliveTimeoutMs: number;
  /** A peer that takes nothing of a frame for so long loses the link. */
  readonly stuckMs: number;
  /** For what is still to be sent when a link is closed. */
  readonly drainMs: number;
  /** From our half-close to the end of the stream. */
  readonly goodbyeMs: number;
}

/** Whom a stream tells. */
export interface LinkEvents {
  received(frame: LinkFrame): void;
  /** The next frame to send; undefined when there is none now. */
  pull(): LinkFrame | undefined;
  /** Called once, last. */
  closed(detail: string): void;
}

/** Of the first frame; what of it is here counts before anybody knows who sends it. */
const MAX_FIRST_BYTES = 16_384;

/** A link is read for so long in one turn, and to the end of the frame that it is at. */
const TURN_MS = 5;

export class LinkStream {
  readonly #stream: Http2Stream;
  readonly #events: LinkEvents;
  readonly #limits: LinkLimits;
  readonly #traffic: WireTraffic;
  readonly #assembler: MessageAssembler;
  #state: "open" | "draining" | "ended" | "closed" = "open";
  /** Since when the one frame in flight waits to be taken. */
  #writingSinceMonoMs: number | undefined;
  /** When it began to drain, and then when it ended. */
  #closingMonoMs = 0;
  #heardMonoMs = patientNowMs();
  /** When it was read first in this turn of the event loop. */
  #turnMonoMs: number | undefined;
  /** What came before the first frame was whole; undefined from then on. */
  #silentBytes: number | undefined = 0;
  #pingedMonoMs: number | undefined;
  #isEndedByPeer = false;

  constructor(
    stream: Http2Stream,
    parts: {
      readonly events: LinkEvents;
      readonly limits: LinkLimits;
      readonly traffic: WireTraffic;
      /** Of messages that have not wholly arrived. */
      readonly bounds: AssemblyBounds;
    },
  ) {
    this.#stream = stream;
    this.#events = parts.events;
    this.#limits = parts.limits;
    this.#traffic = parts.traffic;
    this.#assembler = new MessageAssembler(parts.bounds);
    stream.on("data", (chunk: Buffer) => this.#arrived(chunk));
    stream.on("end", () => this.#peerEnded());
    stream.on("error", (error) => this.#over(error.message));
    stream.on("close", () => this.#streamClosed(stream.rstCode ?? 0));
  }

  /** Whether the peer ended it, in good order or by being gone, before it sent anything. */
  get isEndedUnused(): boolean {
    return this.#isEndedByPeer && this.#silentBytes === 0;
  }

  /** There may be something to send. */
  wake(): void {
    if (this.#writingSinceMonoMs === undefined && (this.#state === "open" || this.#state === "draining")) this.#pump();
  }

  /** Sends what there still is, then half-closes and waits for the peer, at most `goodbyeMs`. */
  close(): void {
    if (this.#state !== "open") return;
    this.#state = "draining";
    this.#closingMonoMs = patientNowMs();
    this.wake();
  }

  /** Ends it now. */
  destroy(detail: string): void {
    this.#over(detail);
  }

  /** Looks at its clocks, by `patientDueMs`; called about four times a second. */
  check(dueMs: number): void {
    const { stuckMs, drainMs, goodbyeMs } = this.#limits;
    if (this.#writingSinceMonoMs !== undefined && dueMs - this.#writingSinceMonoMs > stuckMs) this.#over("peer takes nothing");
    else if (this.#state === "draining" && dueMs - this.#closingMonoMs > drainMs) this.#over("peer takes no farewell");
    else if (this.#state === "ended" && dueMs - this.#closingMonoMs > goodbyeMs) this.#over("closed");
    else this.#keepAlive(dueMs);
  }

  #keepAlive(dueMs: number): void {
    const { session } = this.#stream;
    if (session === undefined || session.destroyed) return;
    if (this.#pingedMonoMs !== undefined) {
      if (dueMs - this.#pingedMonoMs > this.#limits.keepaliveTimeoutMs) this.#over("peer does not answer");
      return;
    }
    if (dueMs - this.#heardMonoMs < this.#limits.keepaliveTimeMs) return;
    this.#pingedMonoMs = patientNowMs();
    session.ping((error) => {
      if (error === null) this.#heard();
    });
  }

  #heard(): void {
    this.#heardMonoMs = patientNowMs();
    this.#pingedMonoMs = undefined;
  }

  #arrived(chunk: Buffer): void {
    if (this.#state === "closed") return;
    this.#heard();
    this.#read(chunk);
  }

  // HOT: once a message; the loop reads the state anew, because any frame may end the link.
  #read(chunk?: Buffer): void {
    try {
      if (chunk !== undefined) this.#assembler.push(chunk);
      for (let message = this.#assembler.next(); message !== undefined; message = this.#assembler.next()) {
        if (this.#silentBytes !== undefined) this.#checkSilent(message.length);
        this.#silentBytes = undefined;
        const frame = decodeLinkFrame(message);
        this.#traffic.count("received", frame.kind, message.length);
        this.#events.received(frame);
        if (this.#isOver() || this.#isTurnOver()) return;
      }
      if (this.#silentBytes !== undefined && chunk !== undefined) this.#checkSilent(this.#silentBytes + chunk.length);
    } catch (error) {
      if (!(error instanceof WaymarkError)) throw error;
      this.#refuse(error.message);
    }
  }

  /** A peer that sends thousands of small frames at once is read a few milliseconds at a time: others' turns come in between. */
  #isTurnOver(): boolean {
    if (this.#turnMonoMs === undefined) {
      this.#turnMonoMs = performance.now();
      setImmediate(() => {
        this.#turnMonoMs = undefined;
        if (!this.#stream.isPaused() || this.#isOver()) return;
        this.#read();
        if (this.#turnMonoMs === undefined || performance.now() - this.#turnMonoMs < TURN_MS) this.#stream.resume();
      });
    }
    if (performance.now() - this.#turnMonoMs < TURN_MS) return false;
    this.#stream.pause();
    return true;
  }

  /** A stranger's first frame is a hello, and a hello is small. */
  #checkSilent(sizeBytes: number): void {
    if (sizeBytes > MAX_FIRST_BYTES) throw invalid("frame", `the first one has more than ${MAX_FIRST_BYTES} bytes`);
    this.#silentBytes = sizeBytes;
  }

  #isOver(): boolean {
    return this.#state === "closed";
  }

  /** Tells the peer what was wrong with its frame, if it takes that. */
  #refuse(detail: string): void {
    if (this.#writingSinceMonoMs === undefined && !this.#stream.destroyed)
      this.#stream.end(framed(encodeLinkFrame({ kind: "goodbye", reason: "bad_frame", detail })));
    this.#tell(`bad frame: ${detail}`);
  }

  #pump(): void {
    const frame = this.#stream.destroyed || this.#stream.closed ? undefined : this.#events.pull();
    if (frame === undefined) {
      if (this.#state === "draining") this.#end();
      return;
    }
    // Frames of records go to many links: framed once, as they are encoded once.
    const bytes = frame.kind === "records" ? encodeRecords(frame).framed : framed(encodeLinkFrame(frame));
    this.#traffic.count("sent", frame.kind, bytes.length - PREFIX_BYTES);
    this.#writingSinceMonoMs = patientNowMs();
    // Called when the peer's window and the socket took all of it: one message in flight, whatever the peer does.
    this.#stream.write(bytes, () => {
      this.#writingSinceMonoMs = undefined;
      this.wake();
    });
  }

  #end(): void {
    this.#state = "ended";
    this.#closingMonoMs = patientNowMs();
    this.#stream.end();
  }

  #peerEnded(): void {
    if (!this.#stream.writableEnded && !this.#stream.destroyed) this.#stream.end();
    this.#isEndedByPeer ||= this.#state === "open";
    this.#tell(this.#state === "open" ? "peer ended the link" : "closed");
  }

  #streamClosed(code: number): void {
    const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL } = constants;
    this.#isEndedByPeer ||= this.#state === "open" && (code === NGHTTP2_NO_ERROR || code === NGHTTP2_CANCEL);
    this.#over(`stream closed (${code})`);
  }

  /** The stream is of no more use to either side, and a link has its connection for itself. */
  #over(detail: string): void {
    this.#tell(detail);
    this.#stream.session?.destroy();
    this.#stream.destroy();
  }

  #tell(detail: string): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.#writingSinceMonoMs = undefined;
    this.#assembler.drop();
    const { session } = this.#stream;
    setTimeout(() => session?.destroy(), this.#limits.goodbyeMs).unref();
    this.#events.closed(detail);
  }
}
