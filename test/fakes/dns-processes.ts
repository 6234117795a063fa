/** A node with DNS processes: who they are, and questions that reach each of them. */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import packet from "dns-packet";
import { queryBytes } from "./dns-text.ts";

/** The process ids of the DNS processes of a node. */
export function dnsProcessesOf(pid: number): readonly number[] {
  const tasks = readdirSync(`/proc/${pid}/task`);
  const children = tasks.flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").split(" ").filter(Boolean));
  return children.map(Number).filter((child) => / ?dns-\d+\0$/.test(commandOf(child)));
}

function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

/** The answers to a question, asked once from a port of its own. Undefined if nobody answers in time. */
async function answersTo(port: number, name: string, type: string, withinMs = 5000): Promise<readonly packet.Answer[] | undefined> {
  const socket = createSocket("udp4");
  try {
    socket.connect(port, "127.0.0.1");
    await once(socket, "connect");
    const answered = once(socket, "message", { signal: AbortSignal.timeout(withinMs) });
    socket.send(queryBytes({ name, type }));
    const [bytes] = (await answered) as [Buffer];
    return packet.decode(bytes).answers ?? [];
  } catch {
    // Refused, or late.
    return undefined;
  } finally {
    socket.close();
  }
}

export async function askOnce(port: number, name: string): Promise<readonly string[] | undefined> {
  return (await answersTo(port, name, "A"))?.flatMap((record) => (record.type === "A" ? [record.data] : []));
}

/** The serial of a zone. */
export async function serialAt(port: number, zone: string): Promise<number | undefined> {
  const [soa] = (await answersTo(port, zone, "SOA")) ?? [];
  return soa?.type === "SOA" ? soa.data.serial : undefined;
}

/** As `askOnce`, from so many ports: the kernel chooses the process by the port. */
export function askOften(port: number, name: string, times: number): Promise<readonly (readonly string[] | undefined)[]> {
  return Promise.all(Array.from({ length: times }, () => askOnce(port, name)));
}
