/** A client on protobuf-es and connect-node, against a real node. */
import { expect, test } from "vitest";
import { mustRun } from "../../scripts/run.ts";
import { startNodeProcess } from "../fakes/node-process.ts";

test("typescript: registers, renews, queries in pages, watches, resumes by both cursors, and its digest is the server's", async () => {
  await using node = await startNodeProcess(["--ephemeral"]);
  expect(JSON.parse(await mustRun("node", ["test/interop/typescript-child.ts", node.grpc]))).toEqual({
    renewals: 3,
    paged: 100,
    badEntry: { code: "InvalidArgument", reason: "INVALID_ARGUMENT", fields: ["entries[0].targets[0].port"] },
    beganWithSnapshot: { first: true, short: false, portable: false },
    afterFirst: 100,
    afterShort: { held: 100, note: "second" },
    unregistered: 100,
    left: 0,
  });
});
