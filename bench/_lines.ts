/** Requests and answers as lines of JSON over TCP: the cheapest protocol between the programs of a benchmark. Each answer has the number of its request. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { createInterface } from "node:readline";

interface Line {
  readonly number: number;
  readonly body: unknown;
}

/** Answers the requests of all connections. Resolves with the port. */
export async function serveLines(answer: (request: unknown) => unknown): Promise<number> {
  const reply = async (socket: Socket, text: string): Promise<void> => {
    const { number, body } = JSON.parse(text) as Line;
    send(socket, { number, body: await answer(body) });
  };
  const server = createServer((socket) => {
    socket.setNoDelay(true).on("error", () => {});
    createInterface({ input: socket }).on("line", (text) => void reply(socket, text));
  });
  server.listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

export class LineClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #sentCount = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    createInterface({ input: socket }).on("line", (text) => {
      const { number, body } = JSON.parse(text) as Line;
      this.#waiting.get(number)?.resolve(body);
      this.#waiting.delete(number);
    });
    socket.on("error", () => {}).on("close", () => this.#waiting.forEach(({ reject }) => reject(new Error("the connection was closed"))));
  }

  static async open(port: number): Promise<LineClient> {
    const socket = connect(port, "127.0.0.1").setNoDelay(true);
    await once(socket, "connect");
    return new LineClient(socket);
  }

  ask<T>(body: unknown): Promise<T> {
    const number = this.#sentCount++;
    const asked = Promise.withResolvers<unknown>();
    this.#waiting.set(number, asked);
    if (this.#socket.destroyed) asked.reject(new Error("the connection was closed"));
    else send(this.#socket, { number, body });
    return asked.promise as Promise<T>;
  }

  close(): void {
    this.#socket.destroy();
  }
}

function send(socket: Socket, line: Line): void {
  if (!socket.destroyed) socket.write(`${JSON.stringify(line)}\n`);
}
