/** What the guides say that clients may do is what the listeners let them do. */
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { EDGE_LIMITS, GRPC_LIMITS } from "../fakes/listener-limits.ts";

/** The cells of the two listeners, by the words of the row that come first. */
function bounds(row: string): readonly string[] {
  const lines = readFileSync("docs/guides/operations.md", "utf8").split("\n");
  const found = lines.filter((line) => line.startsWith(`| ${row} `));
  expect(found).toHaveLength(1);
  const [grpc = "", edge = ""] = (found[0] ?? "").split("|").slice(2);
  return [grpc.trim(), edge.trim()];
}

const seconds = (ms: number): string => `${ms / 1000} s`;
const whole = (count: number): string => count.toLocaleString("en");
const MIB = 1 << 20;

test.each([
  { row: "connections", of: "maxConnections", unit: whole },
  { row: "open streams on one connection", of: "maxStreamsPerConnection", unit: whole },
  { row: "open streams in total", of: "maxStreams", unit: whole },
  { row: "size of one request,", of: "maxMessageBytes", unit: (bytes: number) => `${bytes / MIB} MiB` },
  { row: "total size of unfinished requests", of: "maxBufferedBytes", unit: (bytes: number) => `${bytes / MIB} MiB` },
  { row: "time for a complete request", of: "requestTimeoutMs", unit: seconds },
  { row: "time until a connection without an open call is closed", of: "idleTimeoutMs", unit: seconds },
] as const)("the table of what clients may do has the bounds of both listeners: $row", ({ row, of, unit }) => {
  const [grpc, edge] = bounds(row);
  expect([grpc, edge]).toEqual(
    [{ ...GRPC_LIMITS, maxMessageBytes: GRPC_LIMITS.maxReceiveBytes }, EDGE_LIMITS].map(
      (limits) => expect.stringContaining(unit(limits[of])) as string,
    ),
  );
});

test("the guide for clients says after how long an idle connection of gRPC is closed", () => {
  expect(readFileSync("docs/guides/client-setup.md", "utf8")).toContain(
    `no call has been open for ${GRPC_LIMITS.idleTimeoutMs / 60_000} minutes`,
  );
});
