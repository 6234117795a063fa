/** A fault of ours: it costs the query that met it, and nobody else. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { expect, test } from "vitest";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { startTestGateway } from "../../fakes/dns-gateway.ts";
import { queryBytes } from "../../fakes/dns-text.ts";
import { until } from "../../fakes/until.ts";

test("a query whose answer cannot be written has none, is reported, and the next is answered", async () => {
  const faults: unknown[] = [];
  let isBroken = true;
  const random = () => {
    if (isBroken) throw new RangeError("out of luck");
    return 0.5;
  };
  const web = entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] });
  const catalog = new FakeDnsCatalog([web]);
  await using broken = await startTestGateway(catalog, { random, onFault: (fault) => faults.push(fault) });
  const socket = createSocket("udp4");
  try {
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    const got: number[] = [];
    socket.on("message", (message) => got.push(message.readUInt16BE(0)));
    const ask = (id: number) => socket.send(queryBytes({ name: "web.market.waymark", type: "A", id }), broken.gateway.udpPort, "127.0.0.1");
    ask(1);
    await until("the fault is reported", () => faults.length === 1);
    isBroken = false;
    ask(2);
    await until("the answer", () => got.length > 0);
    expect([got, faults]).toEqual([[2], [new RangeError("out of luck")]]);
  } finally {
    socket.close();
  }
});
