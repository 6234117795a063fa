/**
 * A renewal is heard in time and its answer comes late: what the client has left counts from when it asked, not from when it was told.
 * @module-tag night
 */
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { expect, test } from "vitest";
import { GrpcDoor, textOf } from "../fakes/node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

/** A way to a node that passes on what is asked at once, and answers only while it is open. */
class LateWay implements Disposable {
  readonly #server = createServer((client) => {
    const node = connect(Number(this.#target.split(":")[1]), "127.0.0.1");
    client.pipe(node);
    node.on("data", (bytes: Buffer) => this.#say(() => client.write(bytes)));
    for (const socket of [client, node]) socket.on("error", () => [client, node].forEach((each) => each.destroy()));
  });
  readonly #target: string;
  #held: (() => void)[] | undefined;

  constructor(target: string) {
    this.#target = target;
  }

  async listen(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  #say(words: () => void): void {
    if (this.#held === undefined) words();
    else this.#held.push(words);
  }

  hold(): void {
    this.#held = [];
  }

  release(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const words of held) words();
  }

  [Symbol.dispose](): void {
    this.#server.close();
  }
}

test("a lease runs from when its node hears the renewal: who is told late has less left than a ttl, or nothing", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  using way = new LateWay(node.grpc);
  using near = new GrpcDoor(node.grpc);
  using far = new GrpcDoor(await way.listen());
  const entry = {
    key: { namespace: "svc.shop", name: "late", instanceId: "1", kind: "ENTRY_KIND_SERVICE" },
    targets: [{ host: "10.0.0.1", port: 80 }],
  };
  const { code, response } = await far.ask("register", { entries: [entry], ttl: "5s" });
  expect(code).toBe("OK");
  const leaseIds = [textOf(response["leaseId"])];

  way.hold();
  const renewal = far.ask("renew", { leaseIds });
  const isGone = async () => (await near.ask("catalogQuery", { namespacePrefix: "svc.shop" })).response["items"] === undefined;
  await until("the lease has run out, with its answer on the way", isGone);
  way.release();

  // The node said the truth when it said it. Nothing that it could say now would be sooner there.
  const answer = await renewal;
  expect(answer).toMatchObject({ code: "OK", response: { ttl: "5s" } });
  expect(answer.response["expiredLeaseIds"] ?? []).toEqual([]);
  expect((await far.ask("renew", { leaseIds })).response["expiredLeaseIds"]).toEqual(leaseIds);
});
