/** What the interop tests need beside Node, and whether this machine has it. `.ci/run` installs all of it. */
import { join } from "node:path";
import { ROOT, run } from "../../scripts/run.ts";

/** The Python that has the packages of requirements.txt: the one in the cache, or else the machine's own. */
export async function findPython(): Promise<string | undefined> {
  for (const python of [join(ROOT, ".cache", "python", "bin", "python"), "python3"]) {
    if ((await run(python, ["-c", "import grpc, grpc_tools, google.rpc.status_pb2"])).code === 0) return python;
  }
  return undefined;
}

/** Whether Go, its two plugins and the modules of a program are there or can be fetched: of the client, unless another folder is given. */
export async function isGoThere(folder = "test/interop/go"): Promise<boolean> {
  if (!(await areThere(["protoc-gen-go", "--version"], ["protoc-gen-go-grpc", "--version"], ["go", "version"]))) return false;
  return (await run("go", ["mod", "download"], { cwd: join(ROOT, folder) })).code === 0;
}

/** Whether a JDK and Maven are there; Maven fetches the rest once, into the cache. */
export async function isJavaThere(): Promise<boolean> {
  return areThere(["java", "-version"], ["javac", "-version"], ["mvn", "-version"]);
}

export async function isGrpcurlThere(): Promise<boolean> {
  return areThere(["grpcurl", "-version"]);
}

export async function isConformanceThere(): Promise<boolean> {
  return areThere(["connectconformance", "--version"]);
}

/** Whether the authoritative servers are there that are given our zone. */
export async function areZoneServersThere(): Promise<boolean> {
  return areThere(["knotd", "--version"], ["nsd", "-v"]);
}

/** Whether the tools and the resolver are there that ask our gateway. nslookup and delv come with dig. */
export async function areDnsClientsThere(): Promise<boolean> {
  return areThere(["kdig", "--version"], ["drill", "-v"], ["delv", "-v"], ["unbound", "-V"]);
}

/** CoreDNS with the plugins of a forwarder. */
export async function findCoreDns(): Promise<string | undefined> {
  const { code, output } = await run("coredns", ["-plugins"]);
  return code === 0 && ["forward", "rewrite"].every((name) => output.includes(name)) ? "coredns" : undefined;
}

/** A Python that has dnspython. */
export async function findDnsPython(): Promise<string | undefined> {
  for (const python of [join(ROOT, ".cache", "python", "bin", "python"), "python3"])
    if ((await run(python, ["-c", "import dns.resolver"])).code === 0) return python;
  return undefined;
}

async function areThere(...commands: readonly (readonly [string, string])[]): Promise<boolean> {
  for (const [command, flag] of commands) if ((await run(command, [flag])).code !== 0) return false;
  return true;
}
