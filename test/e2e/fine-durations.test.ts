/** A duration is given in nanoseconds and kept in milliseconds: what is between two of them is no reason to fail, nor to end. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { askHttp, GrpcDoor, goodEntry, textOf } from "../fakes/node.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

/** What a client gives, and what it has: never less than it asked for. */
const TTLS = [
  { given: "25.714285715s", kept: "25.715s" },
  { given: "5.000000001s", kept: "5.001s" },
  { given: "7.0005s", kept: "7.001s" },
  { given: "8.999999999s", kept: "9s" },
] as const;

test.each(["a disk", "no disk"])(
  "a ttl of any number of nanoseconds is kept up to the next millisecond, with %s",
  { tags: ["night"] },
  async (disk) => {
    const flags = disk === "no disk" ? ["--ephemeral"] : ["--data-dir", mkdtempSync(join(tmpdir(), "waymark-durations-"))];
    await using node = await startNodeProcess(flags);
    using grpc = new GrpcDoor(node.grpc);
    const http = node.listeners["http"] ?? "";
    for (const [i, { given, kept }] of TTLS.entries()) {
      const register = (instanceId: string) => ({ entries: [goodEntry({}, { instanceId })], ttl: given });
      const { code, response } = await grpc.ask("register", register(`g${i}`));
      expect([code, response["ttl"]]).toEqual(["OK", kept]);
      const renewed = await grpc.ask("renew", { leaseIds: [textOf(response["leaseId"])] });
      expect([renewed.code, renewed.response["ttl"]]).toEqual(["OK", kept]);
      const overHttp = await askHttp(http, "register", register(`h${i}`));
      expect([overHttp.code, overHttp.response["ttl"]]).toEqual(["OK", kept]);
      expect((await grpc.ask("register", { entries: [goodEntry({}, { instanceId: `s${i}` })], staticLease: true })).code).toBe("OK");
      expect((await grpc.ask("catalogQuery", { maxStaleness: given })).code).toBe("OK");
    }
    expect((await fetch(`http://${http}/readyz`)).status).toBe(200);
  },
);
