/** A TCP relay on loopback that remembers what passed, and can be cut as a network is: then nothing passes and nobody is told. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** More is not remembered. */
const MAX_KEPT_BYTES = 64 * 1024 * 1024;

export class Relay implements AsyncDisposable {
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  readonly #kept: Record<"there" | "back", Buffer[]> = { there: [], back: [] };
  #keptBytes = 0;
  #isCut = false;
  /** Where it leads. */
  target: string;

  private constructor(server: Server, target: string) {
    this.#server = server;
    this.target = target;
    server.on("connection", (near) => this.#accept(near));
  }

  static async to(target: string): Promise<Relay> {
    const server = createServer({ noDelay: true });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return new Relay(server, target);
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** What passed since the last `forget`: towards the target, and back. */
  get passed(): { readonly there: Buffer; readonly back: Buffer } {
    return { there: Buffer.concat(this.#kept.there), back: Buffer.concat(this.#kept.back) };
  }

  hasPassed(word: string): boolean {
    const { there, back } = this.passed;
    return there.includes(word) || back.includes(word);
  }

  forget(): void {
    this.#kept.there = [];
    this.#kept.back = [];
    this.#keptBytes = 0;
  }

  /** Nothing passes from now on, in connections that are there neither. */
  cut(): void {
    this.#isCut = true;
    for (const pair of this.#pairs) for (const socket of pair) socket.pause();
  }

  /** New connections pass again. What stood still is over, as it is for a router that has forgotten it. */
  heal(): void {
    this.#isCut = false;
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
  }

  #accept(near: Socket): void {
    const at = this.target.lastIndexOf(":");
    const far = connect({ host: this.target.slice(0, at), port: Number(this.target.slice(at + 1)), noDelay: true });
    const pair = [near, far] as const;
    this.#pairs.add(pair);
    this.#pipe(near, far, "there");
    this.#pipe(far, near, "back");
    if (this.#isCut) for (const socket of pair) socket.pause();
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.once("close", () => {
        this.#pairs.delete(pair);
        for (const each of pair) each.destroy();
      });
    }
  }

  #pipe(from: Socket, to: Socket, way: "there" | "back"): void {
    from.on("data", (bytes: Buffer) => {
      this.#keptBytes += bytes.length;
      if (this.#keptBytes <= MAX_KEPT_BYTES) this.#kept[way].push(bytes);
      to.write(bytes);
    });
    from.once("end", () => to.end());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy();
    this.#server.close();
    await once(this.#server, "close");
  }
}
