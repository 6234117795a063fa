/** Health, over messages: what checks and watches are told, whenever the node says that it serves. */
import { fromBinary, type Message } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { HealthCheckResponseSchema, HealthCheckResponse_ServingStatus as Status } from "../../gen/grpc/health/v1/health_pb.js";
import { PeerService } from "../../gen/waymark/control/v1/peer_pb.js";
import { DnsService } from "../../gen/waymark/dns/v1/dns_pb.js";
import { WaymarkError } from "../../src/lib/errors.ts";
import { HealthBoard } from "../../src/services/health.ts";
import type { MethodHandler, ServiceDefinition, StreamSource } from "../../src/services/service.ts";

const BUILT = PeerService.typeName;
const UNBUILT = DnsService.typeName;

function board() {
  const built: ServiceDefinition = { desc: PeerService, handlers: { list: { kind: "unary", handle: () => new Uint8Array() } } };
  const health = new HealthBoard([built, { desc: DnsService, handlers: {} }]);
  const handler = (name: string): MethodHandler => health.service.handlers[name] as MethodHandler;
  const check = (service: string): Status => {
    const { handle } = handler("check") as Extract<MethodHandler, { kind: "unary" }>;
    return (handle({ service } as never, {} as never) as Message & { status: Status }).status;
  };
  const list = () => {
    const { handle } = handler("list") as Extract<MethodHandler, { kind: "unary" }>;
    const { statuses } = handle({} as never, {} as never) as unknown as { statuses: Record<string, { status: Status }> };
    return Object.fromEntries(Object.entries(statuses).map(([name, { status }]) => [name, status]));
  };
  const watch = (service: string) => {
    const { open } = handler("watch") as Extract<MethodHandler, { kind: "server_streaming" }>;
    const source: StreamSource = open({ service } as never, {} as never);
    const told: { status: Status | undefined; wakes: number; ended: string } = { status: undefined, wakes: 0, ended: "" };
    source.attach(
      () => (told.wakes += 1),
      (error) => (told.ended = error?.reason ?? "ok"),
    );
    const pull = () => {
      const bytes = source.pull({ monoMs: 0, wallMs: 0 });
      return bytes === undefined ? undefined : fromBinary(HealthCheckResponseSchema, bytes).status;
    };
    return { source, told, pull };
  };
  return { health, check, list, watch };
}

test("nothing serves until the node says so, and what is not built never does", () => {
  const { health, check, list } = board();
  expect([check(""), check(BUILT), check(UNBUILT)]).toEqual([Status.NOT_SERVING, Status.NOT_SERVING, Status.NOT_SERVING]);
  health.setServing(true);
  expect(list()).toEqual({ "": Status.SERVING, [BUILT]: Status.SERVING, [UNBUILT]: Status.NOT_SERVING });
  health.setServing(false);
  expect(check("")).toBe(Status.NOT_SERVING);
});

test("a check of an unknown name is NOT_FOUND", () => {
  expect(() => board().check("no.Such")).toThrow(/not_found: unknown service "no.Such"/);
});

test("a watch is told the status at once, and the newest one after each change", () => {
  const { health, watch } = board();
  const { pull, told } = watch(BUILT);
  expect([pull(), pull()]).toEqual([Status.NOT_SERVING, undefined]);
  health.setServing(true);
  expect([told.wakes, pull(), pull()]).toEqual([1, Status.SERVING, undefined]);
  health.setServing(false);
  health.setServing(true);
  expect(pull()).toBeUndefined(); // A slow reader is told what is, not what was.
});

test("a watch of an unknown name says SERVICE_UNKNOWN and stays open", () => {
  const { health, watch } = board();
  const { pull, told } = watch("no.Such");
  expect(pull()).toBe(Status.SERVICE_UNKNOWN);
  health.setServing(true);
  expect([pull(), told.ended]).toEqual([undefined, ""]);
});

test("a watch that is closed is told nothing more, and the others can be ended", () => {
  const { health, watch } = board();
  const closed = watch("");
  const open = watch("");
  closed.source.close();
  health.setServing(true);
  health.end(new WaymarkError("draining", "go"));
  expect([closed.told, open.told]).toEqual([
    { status: undefined, wakes: 0, ended: "" },
    { status: undefined, wakes: 1, ended: "draining" },
  ]);
});

test("a name beside those of services serves with the node if it is open, and never if it is not", () => {
  const health = new HealthBoard([], { dns: { isOpen: true }, off: { isOpen: false } });
  const { handle } = health.service.handlers["check"] as Extract<MethodHandler, { kind: "unary" }>;
  const check = (service: string) => (handle({ service } as never, {} as never) as Message & { status: Status }).status;
  expect([check("dns"), check("off")]).toEqual([Status.NOT_SERVING, Status.NOT_SERVING]);
  health.setServing(true);
  expect([check("dns"), check("off")]).toEqual([Status.SERVING, Status.NOT_SERVING]);
  health.setOpen("dns", false);
  health.setOpen("off", true);
  health.setServing(true);
  expect([check(""), check("dns"), check("off")]).toEqual([Status.SERVING, Status.NOT_SERVING, Status.NOT_SERVING]);
  health.setOpen("dns", true);
  expect(check("dns")).toBe(Status.SERVING);
});
