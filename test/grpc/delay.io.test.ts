/** How long ago a server may have sent what a client reads, over a way that holds back what the server says. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, expect, test } from "vitest";
import { methods } from "../fakes/grpc-methods.ts";
import { bytes, closeAll, connected, serve, textOf } from "../fakes/grpc-room.ts";
import { until } from "../fakes/until.ts";

/** A relay that passes the client's words on at once, and the server's one chunk after the other as it is told. */
class Relay {
  readonly #server: Server;
  readonly #sockets: Socket[] = [];
  #client: Socket | undefined;
  isHolding = false;
  readonly held: Uint8Array[] = [];

  private constructor(port: number) {
    this.#server = createServer({ noDelay: true }, (near) => {
      const far = connect({ host: "127.0.0.1", port, noDelay: true });
      this.#client = near;
      this.#sockets.push(near, far);
      near.on("data", (chunk) => far.write(chunk));
      far.on("data", (chunk: Buffer) => void (this.isHolding ? this.held.push(chunk) : near.write(chunk)));
      for (const socket of [near, far]) socket.on("error", () => {});
    });
  }

  static async to(port: number): Promise<Relay> {
    const relay = new Relay(port);
    relay.#server.listen(0, "127.0.0.1");
    await once(relay.#server, "listening");
    return relay;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  release(count: number): void {
    for (const chunk of this.held.splice(0, count)) this.#client?.write(chunk);
  }

  [Symbol.dispose](): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}

afterEach(closeAll);

/** A call over a relay, and what came: each word, and the time after which the client knows that the server sent it. */
async function talking() {
  const serving = await serve({ methods: methods().methods });
  const relay = await Relay.to(serving.port);
  const connection = await connected(relay.port, { measuresDelay: true });
  const heard: { readonly word: string; readonly sentAfterMs: number }[] = [];
  let isOver = false;
  const call = connection.start(
    { path: "/t/Talk", isSingleResponse: false },
    {
      message: (said) => void heard.push({ word: textOf(said), sentAfterMs: performance.now() - connection.delayMs }),
      closed: () => {
        isOver = true;
      },
    },
  );
  call.write(bytes("first"));
  await until("the first word is answered", () => heard.length === 1);
  return { relay, connection, call, heard, isOver: () => isOver };
}

test("what comes after the answer to a ping was sent after that ping, however long the way held it back", async () => {
  const { relay, connection, call, heard } = await talking();
  using _ = relay;
  relay.isHolding = true;
  await until("the answer to a ping is on its way", () => relay.held.length > 0);
  const askedMs = performance.now();
  call.write(bytes("late"));
  const place = () => relay.held.findIndex((chunk) => Buffer.from(chunk).includes("late!"));
  await until("the answer is on its way", () => place() > 0);
  const before = performance.now() - connection.delayMs;
  relay.release(place());
  await until("a ping is answered", () => performance.now() - connection.delayMs > before + 1);
  relay.release(relay.held.length);
  await until("it is here", () => heard.length === 2);
  // The server sent it after it was asked, and the client must not take it for younger.
  expect(heard[1]?.word).toBe("late!");
  expect(heard[1]?.sentAfterMs).toBeGreaterThan(before + 1);
  expect(heard[1]?.sentAfterMs).toBeLessThanOrEqual(askedMs);
});

test("on a way that holds nothing back each ping makes the delay short again", async () => {
  const { relay, connection, call, isOver } = await talking();
  using _ = relay;
  let before = 0;
  for (let i = 0; i < 2; i++) {
    before = performance.now() - connection.delayMs;
    await until("a ping is answered", () => performance.now() - connection.delayMs > before + 1);
  }
  call.halfClose();
  await until("it is over", isOver);
  expect(performance.now() - connection.delayMs).toBeGreaterThan(before + 1);
});
