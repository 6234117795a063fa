/**
 * A bare HTTP/1.1 client with one request under way a connection. It looks only for the end of an answer, so that driving costs
 * less than serving. Every listener for HTTP/1.1 is driven by it alike.
 */
import { connect, type Socket } from "node:net";
import type { Address } from "./_wire.ts";

const HEAD_END = "\r\n\r\n";
const LAST_CHUNK = Buffer.from("0\r\n\r\n");
const NOTHING = Buffer.alloc(0);

export interface HttpRequest {
  readonly path: string;
  /** JSON to post; absent: a GET. */
  readonly body?: string | undefined;
  /** Of a GET: the ETag of the answer that the client has. Then an answer may be a 304 without a body. */
  readonly etag?: string;
  /** Of a request with a body; POST when absent. */
  readonly method?: "POST" | "PUT";
}

export interface HttpAnswer {
  /** In small letters. */
  readonly headers: string;
  /** With the sizes of its chunks where it came in chunks. */
  readonly body: Buffer;
}

/** What was sent, without the sizes of its chunks. */
export function contentOf({ headers, body }: HttpAnswer): Buffer {
  if (!headers.includes("transfer-encoding: chunked")) return body;
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = body.indexOf("\r\n", at);
    const size = Number.parseInt(body.toString("latin1", at, lineEnd), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(body.subarray(lineEnd + 2, lineEnd + 2 + size));
    at = lineEnd + 2 + size + 2;
  }
}

interface Waiting {
  readonly resolve: (answer: HttpAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** A connection that is kept. */
export class HttpWire {
  readonly #socket: Socket;
  readonly #host: string;
  #waiting: Waiting | undefined;
  #bytes: Buffer = NOTHING;
  #head = "";
  /** Where the body of the answer under way begins; 0 while its head is not whole. */
  #bodyAt = 0;
  /** Bytes of that body; -1 when it comes in chunks. */
  #length = 0;

  private constructor(socket: Socket, host: string) {
    this.#socket = socket;
    this.#host = host;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#take(chunk));
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#waiting?.reject(new Error("the server closed the connection")));
  }

  static async open(to: Address): Promise<HttpWire> {
    const socket = connect(to);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return new HttpWire(socket, `${to.host}:${to.port}`);
  }

  /** The body of a 200. Rejects as `ask` does. */
  async request(request: HttpRequest): Promise<Buffer> {
    return (await this.ask(request)).body;
  }

  /** A 200, or a 304 where an ETag was given. Rejects on any other status, when a request is under way, and when the connection is closed. */
  ask({ path, body, etag, method = "POST" }: HttpRequest): Promise<HttpAnswer> {
    // Servers close connections that are idle for long, and Consul those on which nothing has come for 10 s. Nobody would be told of an answer that cannot come.
    if (!this.isOpen) return Promise.reject(new Error("the server had closed the connection"));
    if (this.#waiting !== undefined) return Promise.reject(new Error("one request at a time"));
    const head =
      body === undefined
        ? `GET ${path} HTTP/1.1\r\nhost: ${this.#host}\r\n${etag === undefined ? "" : `if-none-match: ${etag}\r\n`}\r\n`
        : `${method} ${path} HTTP/1.1\r\nhost: ${this.#host}\r\ncontent-type: application/json\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      this.#socket.write(head);
    });
  }

  /** False when either side has closed it. */
  get isOpen(): boolean {
    return !this.#socket.destroyed;
  }

  close(): void {
    this.#waiting = undefined;
    this.#socket.destroy();
  }

  #take(chunk: Buffer): void {
    this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
    if (this.#bodyAt === 0 && !this.#readHead()) return;
    const body = this.#bytes.subarray(this.#bodyAt);
    const isWhole = this.#length < 0 ? body.subarray(-LAST_CHUNK.length).equals(LAST_CHUNK) : body.length >= this.#length;
    if (isWhole) this.#answered(body);
  }

  #readHead(): boolean {
    const end = this.#bytes.indexOf(HEAD_END);
    if (end < 0) return false;
    this.#head = this.#bytes.toString("latin1", 0, end).toLowerCase();
    this.#bodyAt = end + HEAD_END.length;
    this.#length = this.#head.includes("transfer-encoding: chunked") ? -1 : Number(/content-length: (\d+)/.exec(this.#head)?.[1] ?? 0);
    return true;
  }

  #answered(body: Buffer): void {
    const waiting = this.#waiting;
    const status = this.#bytes.toString("latin1", 9, 12);
    [this.#waiting, this.#bytes, this.#bodyAt] = [undefined, NOTHING, 0];
    if (status === "200" || status === "304") waiting?.resolve({ headers: this.#head, body });
    else waiting?.reject(new Error(`status ${status}: ${body.toString("utf8", 0, 500)}`));
  }
}
