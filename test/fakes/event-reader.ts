/** A client of server-sent events over HTTP/1.1 or HTTP/2, with a connection of its own, and the events that it has read. */
import { Agent, get as getPlain } from "node:http";
import { connect } from "node:http2";
import { get as getSecure } from "node:https";
import type { Readable } from "node:stream";
import { until } from "./until.ts";

export interface EventTarget {
  /** `http://127.0.0.1:1`, or with `https`. */
  readonly base: string;
  readonly path: string;
  readonly version: "1.1" | "2";
  readonly ca?: string;
  readonly method?: "GET" | "HEAD";
  readonly headers?: Readonly<Record<string, string>>;
}

export class EventReader implements Disposable {
  status = 0;
  headers: Readonly<Record<string, unknown>> = {};
  /** All that was read. */
  text = "";
  isEnded = false;
  /** A test pauses it. */
  body: Readable | undefined;
  #close: () => void = () => {};

  constructor(target: EventTarget) {
    if (target.version === "2") this.#askHttp2(target);
    else this.#askHttp1(target);
  }

  /** Waits until the head of the response has come. */
  async begun(): Promise<this> {
    await until("the response begins", () => this.status > 0);
    return this;
  }

  /** Waits for a text. */
  async reads(text: string): Promise<void> {
    await until(`the text ${JSON.stringify(text)}, got ${JSON.stringify(this.text.slice(-500))}`, () => this.text.includes(text));
  }

  async ended(): Promise<string> {
    await until("the response ends", () => this.isEnded);
    return this.text;
  }

  /** The events, each with its fields. */
  get events(): readonly Readonly<Record<string, string>>[] {
    return this.text
      .split("\n\n")
      .slice(0, -1)
      .filter((block) => block.includes("data: "))
      .map((block) => Object.fromEntries(block.split("\n").map((line) => line.split(/: (.*)/s))) as Record<string, string>);
  }

  [Symbol.dispose](): void {
    this.#close();
  }

  #askHttp1({ base, path, ca, method = "GET", headers = {} }: EventTarget): void {
    const options = { method, headers, ...(ca === undefined ? { agent: new Agent() } : { ca, agent: undefined }) };
    const request = (base.startsWith("https") ? getSecure : getPlain)(`${base}${path}`, options, (response) => {
      this.status = response.statusCode ?? 0;
      this.headers = response.headers;
      this.#read(response);
    });
    request.on("error", () => {});
    this.#close = () => request.destroy();
  }

  #askHttp2({ base, path, ca, method = "GET", headers = {} }: EventTarget): void {
    const session = connect(base, ca === undefined ? {} : { ca });
    session.on("error", () => {});
    const request = session.request({ ":path": path, ":method": method, ...headers });
    request.on("response", (got) => {
      this.status = Number(got[":status"]);
      this.headers = got;
    });
    this.#read(request);
    this.#close = () => session.destroy();
  }

  #read(body: Readable): void {
    this.body = body;
    body.setEncoding("utf8");
    body.on("data", (piece: string) => {
      this.text += piece;
    });
    body.on("end", () => {
      this.isEnded = true;
    });
    body.on("error", () => {});
  }
}
