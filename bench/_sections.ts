/** The prose of each benchmark's section in docs/reference/benchmarks.md, in the page's order. Figures do not belong here: they come from the results. */

export interface Section {
  /** For the table of contents. */
  readonly topic: string;
  /** Programs compared with Waymark, for the table of contents; "–" where the goals are limits of our own. */
  readonly peers: string;
  /** What is measured, and how the sides differ. */
  readonly measures: string;
  /** How to read the figures: what limits them. */
  readonly reading: string;
}

/** Order: reading, writing, watching, DNS, many nodes, failures, resources, regions, the client library. */
export const SECTIONS: Readonly<Record<string, Section>> = {
  query: {
    topic: "CPU time of a read request",
    peers: "etcd, Consul",
    measures:
      "CPU time of a node per read request: an exact query of ten entries, and a page of 100 entries. The peers answer the same work: a serializable range in etcd, and the health endpoint in Consul. etcd does not parse filters or check scopes; Consul checks and indexes services, as Waymark does.",
    reading:
      "Node's own HTTP/2 takes most of the time of an exact query. A bare `node:http2` server that answers the same bytes is the lower bound; the tables below have it as a row. A call that arrives alone pays for waking a thread, and for a read and a write of its own. A page of 100 entries is cheap, because a node keeps entries in memory as the bytes that it sends. Over HTTP/JSON, the HTTP listener answers short calls without the Connect library and writes JSON from the stored bytes; the rest is Node's HTTP/1.1 and building the text.",
  },
  resolver: {
    topic: "CPU time and memory of a resolver",
    peers: "a Waymark node, Consul's client agent",
    measures:
      "CPU time per query and memory of a resolver, compared with the node that it reads from and with Consul's client agent with its cache. Only the resolver or the agent counts; the node or server that it reads from is idle during the measurement.",
    reading:
      "A resolver answers from the same kind of lists as a node, so a query costs about as much as on a node, plus a check of the age of the followed data. It has no journal and no journal thread, but counts the requests for each name. Over 64 connections with one call at a time each, Node's HTTP/2 is the limit, as in [query](#query).",
  },
  register: {
    topic: "CPU time and latency of registrations and lease renewals",
    peers: "etcd, a bare node:http2 server",
    measures:
      "CPU time and latency of durable registrations, changes and lease renewals. etcd sends each write through Raft, also on a single server, and keeps each revision until it is compacted; it does not check content. Waymark validates every entry against the schema, and maintains indexes by name, tag and metadata. It also checks policy and quotas where they are configured, but not in this benchmark.",
    reading:
      "Parsing, validation, indexing and the journal each take a share of a registration. A batch shares the lease, the request and the disk flush; a single registration pays for waking two threads and for one flush. A renewal message costs an HTTP/2 read and write in Node, and our own work in addition: the row with a bare `node:http2` server shows how much. Many leases in one message share this cost.",
  },
  watch: {
    topic: "CPU time of delivering changes to watches",
    peers: "etcd, NATS, a bare node:http2 server",
    measures:
      "CPU time of delivering small changes to 1, 1,000 and 10,000 watches. A Waymark watch can resume at a cursor and is filtered for each caller. NATS was measured without JetStream, so it stores nothing and forwards bytes to the clients whose subject matches. Each etcd watch has its own stream here, like a Waymark watch; etcd's Go client puts all watches of a program on one stream, which costs etcd less.",
    reading:
      "A delta is encoded once for all watches that receive it. If each watch has its own filter, an index of names finds the watches that a change concerns. The remaining cost is a write per stream and, above all, memory access: the objects of a thousand streams do not fit into the caches of a core.",
  },
  dns: {
    topic: "CPU time of DNS answers",
    peers: "CoreDNS, Knot, a bare node:dgram socket",
    measures:
      "CPU time of a DNS answer over UDP, alone and while entries change, and the behaviour under overload. dnsperf sends the queries to every server. Where entries change at the same time, the CPU time of registering them counts as part of the answers.",
    reading:
      "`node:dgram` reads and writes one packet per system call, which is most of the cost of an answer. A bare Node socket that sends as many bytes is the lower bound, and has a row. Our own part is finding the answer by the bytes of the query, and copying its prepared pieces in a random order. [Decision 25](../decisions/0025-a-packet-a-call.md) has the arithmetic, and designs that would reach the missed goals.",
  },
  fleet: {
    topic: "a fleet of proxies, each with its own filter",
    peers: "–",
    measures: "Delivery of changes to 10,000 streams on one core, each with its own filter of 50 names.",
    reading: "Each delivery is a small write to its own stream. Changes that arrive within 2 ms share a message.",
  },
  workers: {
    topic: "read workers",
    peers: "a Waymark node without workers",
    measures: "CPU time, rate and memory of a node with read workers.",
    reading:
      "A worker answers reads like a node without workers, from its own copy of the catalog. A write through a worker costs one additional message in each direction.",
  },
  cluster: {
    topic: "replication between five nodes",
    peers: "–",
    measures: "Replication delay, start-up of a new node, and idle cost in a cluster of five nodes on one machine.",
    reading:
      "A receiving node reads, validates and indexes an entry as if a client had sent it, because it does not trust its peers' data. At a low rate, changes mostly cost the waking of threads and sockets, which also determines the delay.",
  },
  members: {
    topic: "three nodes compared with three etcd members",
    peers: "etcd",
    measures:
      "CPU time and delay of changes in a cluster of three nodes, compared with three etcd members. etcd's members agree on each change by consensus before it is acknowledged. A Waymark node acknowledges a write that is durable on its own disk and replicates it afterwards.",
    reading: "As in [cluster](#cluster): each receiving node validates and indexes every entry.",
  },
  propagation: {
    topic: "delay of changes to all nodes of a site",
    peers: "Consul",
    measures: "Time from a scheduled change until every node shows it, compared with Consul's servers and client agents.",
    reading: "As in [cluster](#cluster): at this rate, waking threads and sockets takes most of the time.",
  },
  membership: {
    topic: "detection of dead nodes",
    peers: "memberlist",
    measures:
      "Time until all nodes know that a node is dead, compared with HashiCorp's memberlist. memberlist also has a preset for one machine (DefaultLocalConfig), with which a vanished machine is detected sooner than by Waymark.",
    reading:
      "The time consists of probes, indirect probes through other members, and the time that a suspected member has to answer. All of them are timers, which grow with the number of nodes.",
  },
  tiers: {
    topic: "resolvers behind resolvers",
    peers: "–",
    measures: "Delay of changes through two tiers of resolvers, and the idle cost of many resolvers for a node.",
    reading:
      "Each tier reads a message, indexes its changes and writes it again; changes that arrive within 2 ms share a message. In an idle namespace, a resolver costs its upstream almost nothing, because one watch covers everything that it follows. The rest is a bookmark per second, and digests that are compared.",
  },
  outage: {
    topic: "lookups while all nodes are down",
    peers: "the same system before the outage",
    measures: "Lookups of clients and resolvers while all nodes are killed or paused, and their reconnection afterwards.",
    reading:
      "Lookups need no server. Timers determine when clients reconnect: they spread the attempts, so that servers that have just started are not met by all clients at the same time.",
  },
  leadership: {
    topic: "failover of leaders",
    peers: "etcd's election recipe",
    measures:
      "Time until a successor may act after the leader of a scope has been killed or has stopped, compared with the election recipe of etcd's Go client on the same members of etcd. Also the writes of 1,000 scopes at rest, the delay of a policy, and lookups while the store is down.",
    reading:
      "A successor waits until it has seen the session of the leader unchanged for a whole lease. A leader that is killed has renewed its session up to a third of a lease earlier, so a kill costs between two thirds of a lease and a whole lease. etcd counts the same time on its leader, and looks for expired leases twice per second.",
  },
  shards: {
    topic: "owners of shards: kills, drains and moves",
    peers: "a mutex of etcd for each shard",
    measures:
      "Time until all shards have owners that may act after an owner or its node has been killed, compared with one mutex of etcd's Go client for each shard on the same members of etcd. Also the delay of a move at 1,000 clients, a planned drain of an owner under load, the plans that balance a set when an owner joins, and the cost of lookups and plans.",
    reading:
      "A killed owner keeps its shards until its last validity is over, at most a lease after its last heartbeat. The controller waits another twelfth of a lease, then writes at most 48 shards per change, and the next owner acts when its node has recorded the shard. An owner whose node was killed must wait until the session of the node has ended. The mutexes of etcd are free when the session of their process has expired, and the next process already waits for each of them.",
  },
  operators: {
    topic: "operators: lists of members, operations, status, and a drain under load",
    peers: "Consul's catalog of nodes, for lists",
    measures:
      "Waiting times of operators, and everything that programs must not see of their work. Lists of 1,000 members are read while members change and 200 watches follow them, compared with the list of nodes of Consul's catalog, which is idle meanwhile. The other parts use five nodes that share three members of etcd: the time until a cordon, its end or a label is in force on a node when another node was called; the time of `waymark status`, also with a paused and with a killed node; and the drain of one node that has 1,000 leases and 1,000 static entries, under 2,000 lookups per second and 500 watches. The benchmark knows every registered entry, and computes the set and the digest of each watch itself.",
    reading:
      "A list mostly costs making 460 KiB of JSON. An unchanged list costs one comparison, because its ETag contains the number of the last change. An operation is one write to etcd, and its node learns of it through a watch. `waymark status` starts a process and calls all nodes at the same time; a node that does not answer costs 2 s. A drain needs a third of a lease until all clients have renewed, less than two seconds for static entries, `dns.max_ttl` for the addresses in caches, and up to two seconds for 100 watches.",
  },
  flood: {
    topic: "one tenant floods a node",
    peers: "the same node without the flood",
    measures: "Latency of another tenant's queries while one tenant sends ten times its rate limit.",
    reading: "A call over its limit is refused before its message is read. The remaining cost is Node's HTTP/2.",
  },
  growth: {
    topic: "cost with 100 times as many entries",
    peers: "the same node with fewer entries",
    measures: "CPU time of the same work with 10,000 and with 1,000,000 entries.",
    reading:
      "The number of steps to find a name grows at most with the logarithm of the size. Most of the growth is memory access that misses the caches of the core and, for entries drawn at random, the pages of the journal that are written.",
  },
  memory: {
    topic: "memory of a node",
    peers: "etcd",
    measures: "Memory of a node with 0, 100,000 and 1,000,000 entries, and of the index for DNS.",
    reading:
      "Node with `http2`, SQLite and a worker thread takes about half of the memory of an empty node; [decision 22](../decisions/0022-dist-is-a-pack.md) lists the share of each library. An entry consists of its bytes, a key, a record and a place in each index.",
  },
  restart: {
    topic: "start after kill -9",
    peers: "etcd",
    measures: "CPU time and duration of a start on existing data.",
    reading:
      "With few entries, a start mostly loads the program's modules; with many entries, it mostly reads rows from the journal and indexes them.",
  },
  regions: {
    topic: "traffic between regions",
    peers: "record frames, Consul's peering",
    measures: "Bytes between two regions while endpoints join and leave.",
    reading:
      "A summary describes a service as a whole, so most changes of single endpoints are not sent to other regions at all. The notes state the difference to Consul's data.",
  },
  "regions-latency": {
    topic: "delay of summaries between regions",
    peers: "–",
    measures: "Time until a change of a service is visible in all other regions, with 80 ms between regions.",
    reading: "The hold-down and the export interval determine the large values; the others consist of batches and the network delay.",
  },
  resolve: {
    topic: "a choice in the client library",
    peers: "–",
    measures: "Time of one choice from a live map in the client library.",
    reading: "Names that are chosen rarely cost more, because their data is no longer in the caches of the core.",
  },
  guard: {
    topic: "check for regressions",
    peers: "etcd, a bare node:http2 server",
    measures:
      "CPU time of each path compared with a peer, to detect that a path became more expensive than in the last kept result. `npm run bench -- --quick` runs it in under three minutes.",
    reading: "The table compares versions of one path. It is not a comparison of products.",
  },
  identity: {
    topic: "certificates of nodes: joins, renewals and revocation",
    peers: "step-ca",
    measures:
      "Joins of newcomers through three issuers over three etcd members, and the CPU time per certificate compared with step-ca's /1.0/sign with a JWK provisioner. Streams, suspicions and gossip while five nodes renew certificates of one minute. The time until 20 nodes refuse and disconnect a revoked node or token. The start of five nodes after three days.",
    reading:
      "A newcomer opens two TLS connections, one to find the root whose digest its token contains, and one to join. Each join is one conditional transaction in etcd, where step-ca writes to its own database file. step-ca parses a PKCS#10 request and a JWT; an issuer gets a raw key and the secret of a token.",
  },
};
