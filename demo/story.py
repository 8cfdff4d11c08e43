"""The story, chapter by chapter. Every command runs as it is shown; every claim is checked."""

from __future__ import annotations

from demo import world
from demo.alive import change_while_it_runs
from demo.cast import Cast, address_of
from demo.teller import Teller, run_quietly

OUTSIDE = "ip netns exec outside"
HOST = "192.0.2.10"
TALK_SECONDS = 5


def tell(teller: Teller) -> None:
    """All of it, in order."""
    set_the_scene(teller)
    start_daemon(teller)
    cast = Cast(teller, needs_run=world.is_real_root())
    show_modes(teller, cast)
    make_networks(teller, cast)
    publish(teller, cast)
    refuse(teller, cast)
    change_while_it_runs(teller, cast, OUTSIDE, HOST)
    join_segment(teller, cast)
    show_objects(teller)
    crash(teller, cast)
    disturb(teller, cast)
    explain(teller, cast)
    leave(teller, cast)


def set_the_scene(teller: Teller) -> None:
    """Where all this happens."""
    teller.title("linkspan: a container network engine, from the first packet to a clean exit")
    rights = "root" if world.is_real_root() else "an ordinary user, root in a user namespace"
    teller.say(
        f"""This runs as {rights}, in network, mount and process namespaces of its own.
        The machine's own network is not touched. In here stand a host, and somebody outside
        who shares its wire:"""
    )
    teller.draw("""
        outside                           host
        eth0 192.0.2.20  <--- wire --->  eth0 192.0.2.10
    """)


def start_daemon(teller: Teller) -> None:
    """The daemon, and the networks that exist from the start."""
    teller.chapter("The daemon")
    teller.say("One daemon serves a unix socket and keeps its state in SQLite.")
    launch(teller)
    teller.run("linkspan network ls", "a default network is there", shows=r"\bbridge\b")


def launch(teller: Teller) -> None:
    """Start the daemon and wait until it answers."""
    teller.run(
        f"linkspan daemon --state-dir {world.STATE} >>/run/daemon.log 2>&1 &\n"
        + "echo $! >/run/daemon.pid"
    )
    teller.wait(lambda: run_quietly("linkspan network ls").status == 0, "the daemon answers", 20)


def show_modes(teller: Teller, cast: Cast) -> None:
    """none, host and bridge."""
    teller.chapter("Three modes: none, host, bridge")
    if not cast.runs:
        reason = cast.refusal.text.strip().splitlines()[-1:] or ["it gave no reason"]
        teller.say(
            f"""`linkspan run` does not work for this user here ("{reason[0]}"). So namespaces
            made by `ip netns` stand in for containers; linkspan treats both alike."""
        )
        teller.run("ip netns add alone")
        teller.run("linkspan attach --name alone --netns alone --network none")
        teller.run(
            "ip netns exec alone ip -brief address", "loopback only", shows=r"^lo", lacks="eth0"
        )
        teller.run("linkspan detach alone")
        teller.run("ip netns delete alone")
        return
    teller.say("With `none`, a container has loopback and nothing else.")
    teller.run(
        "linkspan run --rm --network none -- ip -brief address",
        "loopback only",
        shows=r"^lo",
        lacks="eth0",
    )
    teller.say("With `host`, it shares the host's own network.")
    teller.run(
        "linkspan run --rm --network host -- ip -brief address",
        "the host's own interfaces",
        shows=HOST.replace(".", r"\."),
    )
    teller.say("With `bridge`, the default, it gets an address on a private subnet.")
    teller.run(
        "linkspan run --rm -- ip -brief address",
        "an address of its own",
        shows=r"^eth0\S*\s+UP\s+\d+\.",
        lacks=HOST,
    )


def make_networks(teller: Teller, cast: Cast) -> None:
    """Plan first, then two networks with a container each."""
    teller.chapter("Two networks")
    teller.say("Every change can be planned first. These are the objects, and nothing is done.")
    teller.run(
        "linkspan plan -- network create web --subnet 10.20.0.0/24",
        "the plan names the gateway's address",
        shows=r"10\.20\.0\.1",
    )
    teller.run("linkspan network ls", "nothing was done", lacks=r"\bweb\b")
    teller.say("Now for real: a network for the shop, another for the office.")
    teller.run("linkspan network create web --subnet 10.20.0.0/24")
    teller.run("linkspan network create office --subnet 10.30.0.0/24")
    cast.start("shop", "web", "python3 -m http.server 80", ["8080:80"])
    cast.start("clerk", "office", "sleep 600")
    teller.run("linkspan ps", "both are up", shows=r"shop[\s\S]*clerk|clerk[\s\S]*shop")


def publish(teller: Teller, cast: Cast) -> None:
    """The published port, from everywhere."""
    teller.chapter("A published port")
    teller.say("Port 8080 of the host leads to port 80 of the shop. It answers to the outside,")
    teller.run("linkspan port shop", "8080 leads to 80", shows=r"8080[\s\S]*80")
    teller.wait(lambda: answers(OUTSIDE, f"http://{HOST}:8080/"), "the shop opens")
    for words, place, target in (
        ("", OUTSIDE, HOST),
        ("to the host itself, by its address and by 127.0.0.1,", "", HOST),
        ("", "", "127.0.0.1"),
        ("to a container of another network,", cast.inside("clerk"), HOST),
        ("and to the shop itself.", cast.inside("shop"), HOST),
    ):
        if words:
            teller.say(words)
        teller.run(
            f"{place} curl -sI -m 3 http://{target}:8080/ | head -1".strip(),
            "answered",
            shows="200 OK",
        )
    teller.say("The shop sees who asked: client addresses are kept.")
    teller.run(
        f"{cast.log_of('shop')} 2>&1 | grep 192.0.2.20 | tail -1",
        "it saw the address of the outside",
        shows=r"192\.0\.2\.20",
    )


def refuse(teller: Teller, cast: Cast) -> None:
    """What does not work, and why."""
    shop = address_of("shop")
    teller.chapter("What is refused, and why")
    teller.say("A port that is taken. The refusal says by whom.")
    teller.run(
        "linkspan attach --name kiosk --network web -p 8080:80",
        "refused by name",
        refused=True,
        shows="8080.*shop",
    )
    teller.say(
        """A stranger who routes to the shop's own address. Only published ports are open; what
        is not published gets no answer."""
    )
    teller.run(f"ip -n outside route add 10.20.0.0/24 via {HOST}")
    teller.run(f"{OUTSIDE} curl -sS -m 1 http://{shop}/", "no answer for strangers", refused=True)
    teller.say("Another network: they are isolated, and a container is told so at once.")
    teller.run(
        f"{cast.inside('clerk')} curl -sS -m 2 http://{shop}/",
        "refused between networks",
        refused=True,
        lacks="timed out",
    )
    teller.say("A port published on 127.0.0.1 is for the host alone.")
    cast.start("till", "web", "python3 -m http.server 80", ["127.0.0.1:9000:80"])
    teller.wait(lambda: answers("", "http://127.0.0.1:9000/"), "the till opens")
    teller.run("curl -sI -m 3 http://127.0.0.1:9000/ | head -1", "the host may", shows="200 OK")
    teller.run(f"{OUTSIDE} curl -sS -m 1 http://{HOST}:9000/", "the outside may not", refused=True)
    teller.say("An internal network has no way out, not even to published ports.")
    teller.run("linkspan network create vault --internal --subnet 10.40.0.0/24")
    cast.start("ledger", "vault", "sleep 600")
    teller.run(
        f"{cast.inside('ledger')} curl -sS -m 2 http://{HOST}:8080/", "no way out", refused=True
    )
    refuse_borrowed_address(teller)


def refuse_borrowed_address(teller: Teller) -> None:
    """Spoofing, from a namespace that somebody else made."""
    teller.say(
        """Bring your own namespace: links, addresses and routes are made in it. Whoever is root
        in there can take a second address, but what it sends from that is dropped."""
    )
    teller.run("ip netns add ctr7")
    teller.run("linkspan attach --name ctr7 --netns /run/netns/ctr7 --network web")
    own = address_of("ctr7")
    teller.run(
        f"ip netns exec ctr7 ping -c 1 -W 1 -q -I {own} 10.20.0.1 | grep packets",
        "its own address works",
        shows=r"\b0% packet loss",
    )
    teller.run("ip -n ctr7 address add 10.20.0.99/24 dev eth0")
    teller.run(
        "ip netns exec ctr7 ping -c 1 -W 1 -q -I 10.20.0.99 10.20.0.1 | grep packets",
        "a borrowed one does not",
        shows="100% packet loss",
    )


def show_objects(teller: Teller) -> None:
    """What all this is made of."""
    teller.chapter("What it is made of")
    teller.say("Ordinary kernel objects, which any tool can show. A bridge a network:")
    teller.run("ip -brief link show type bridge", "ours are there", shows=r"^ls-", limit=8)
    teller.say(
        """And a firewall whose rules never grow: a container or a port is an element of a
        set."""
    )
    teller.run(
        "nft list map inet linkspan ports", "8080 leads to the shop", shows=r"tcp \. 8080 : 10\.20"
    )
    teller.say("A sandbox, as linkspan sees it:")
    teller.run("linkspan inspect ctr7", "it knows the namespace", shows="/run/netns/ctr7")
    teller.run("linkspan detach ctr7")
    teller.run("ip -n ctr7 -brief link", "the namespace stays, our link is gone", lacks="eth0")
    teller.run("ip netns delete ctr7")


def crash(teller: Teller, cast: Cast) -> None:
    """Kill -9, while a connection flows."""
    teller.chapter("A crash")
    teller.say("A client outside holds a connection through a published port, and talks.")
    cast.start("echo", "web", "socat TCP-LISTEN:7,fork,reuseaddr EXEC:cat", ["7000:7"])
    teller.wait(
        lambda: run_quietly(f"{OUTSIDE} python3 demo/talk.py {HOST} 7000 0.1").status == 0,
        "the echo answers",
    )
    teller.run(
        f"{OUTSIDE} python3 demo/talk.py {HOST} 7000 {TALK_SECONDS} >/run/talk.txt 2>&1 &\n"
        "echo $! >/run/talk.pid"
    )
    teller.say("Meanwhile the daemon dies without a word.")
    teller.run("kill -9 $(cat /run/daemon.pid)")
    teller.run("linkspan ps", "nobody answers the command line", refused=True)
    teller.run(
        f"{OUTSIDE} curl -sI -m 3 http://{HOST}:8080/ | head -1",
        "but the network works: the data plane outlives its daemon",
        shows="200 OK",
    )
    teller.say("It starts again, reads its store, and looks at what is there.")
    launch(teller)
    teller.run("linkspan ps", "everybody is still there", shows=r"shop[\s\S]*echo|echo[\s\S]*shop")
    teller.wait(
        lambda: run_quietly("kill -0 $(cat /run/talk.pid)").status != 0, "the talk ends", 20
    )
    teller.run("cat /run/talk.txt", "not a line was lost", shows="longest wait")
    sent = run_quietly("cat /run/talk.txt").text.split()
    teller.claim("every line came back", sent[:1] == sent[3:4], " ".join(sent))


def disturb(teller: Teller, cast: Cast) -> None:
    """Somebody else empties the firewall, and deletes a link."""
    teller.chapter("Somebody else's hands")
    teller.say("Another program empties the whole firewall.")
    teller.run("nft flush ruleset")
    taken = teller.wait(
        lambda: answers(OUTSIDE, f"http://{HOST}:8080/"), "the firewall is there again"
    )
    teller.claim(f"ours works within {max(taken, 0.1):.1f} s, unasked", taken < 1, "too late")
    teller.say(
        """Where the kernel can, it keeps others' hands off our tables; where it cannot, they
        are loaded again at once. Either way they stand, and stay closed to strangers."""
    )
    teller.run("nft list tables", "the tables stand", shows=r"inet linkspan")
    teller.run(
        f"{OUTSIDE} curl -sS -m 1 http://{address_of('shop')}/",
        "still no answer for strangers",
        refused=True,
    )
    teller.say("Then somebody deletes the shop's link.")
    port = run_quietly(f"{cast.inside('shop')} cat /sys/class/net/eth0/iflink")
    links = run_quietly("ip -oneline link show").text.splitlines()
    index = port.text.strip()
    name = next(
        (line.split()[1].split("@")[0] for line in links if line.startswith(index + ":")), ""
    )
    teller.run(f"ip link delete {name}")
    taken = teller.wait(
        lambda: answers(OUTSIDE, f"http://{HOST}:8080/"), "the shop's link is there again"
    )
    teller.claim(f"repaired within {max(taken, 0.1):.1f} s", taken < 3, "too late")
    told = "linkspan events --since 0 --no-follow | grep repaired | tail -1"
    teller.wait(lambda: "repaired" in run_quietly(told).text, "the repair is an event")
    teller.say("A repair is an event; the daemon's log has every object.")
    teller.run(told, "it is told", shows="repaired")
    teller.run("grep WARNING /run/daemon.log | tail -3", "in detail", shows="create")


def join_segment(teller: Teller, cast: Cast) -> None:
    """A container beside the host on its wire, by macvlan."""
    teller.chapter("On the wire itself: macvlan")
    teller.say(
        """A container can be a machine of the segment, with a MAC and an address of its own: no
        bridge, no NAT. Somebody outside has 192.0.2.64 already."""
    )
    teller.run("ip -n outside address add 192.0.2.64/24 dev eth0")
    teller.run(
        "linkspan network create wire -d macvlan -o parent=eth0 --ip-range 192.0.2.64/26",
        shows=r"^[0-9a-f]{64}$",
    )
    teller.say(
        "An address is asked for on the segment before it is used; a taken one is passed over."
    )
    cast.start("buoy", "wire", "python3 -m http.server 80")
    teller.run(
        "linkspan inspect buoy | grep 192.0.2",
        "it has the next address",
        shows=r"192\.0\.2\.65",
    )
    address = address_of("buoy")
    teller.wait(lambda: answers(OUTSIDE, f"http://{address}/"), "the buoy answers")
    teller.run(
        f"{OUTSIDE} curl -sI -m 3 http://{address}/ | head -1",
        "reached at its own address, no port published",
        shows="200 OK",
    )
    teller.say("No firewall of this host sees those frames, and the audit says so.")
    teller.run("linkspan audit | grep wire", "it is listed", shows="underlay|segment")


def explain(teller: Teller, cast: Cast) -> None:
    """What is open, what a change opens, and where a packet goes: one that arrives, one not."""
    teller.chapter("Asking the host itself")
    teller.say(
        """Whoever made a host's network, linkspan can explain it: from the kernel alone, without
        a daemon, and without sending anything. What can a stranger reach?"""
    )
    teller.run("linkspan exposed --link eth0", "8080 is among it", shows=r"8080", limit=12)
    teller.say("What does a change open? A look is saved, a port published, and compared:")
    teller.run("linkspan snapshot save /run/before.lks >/dev/null")
    teller.run("linkspan publish shop 8082:80")
    teller.run(
        "linkspan diff /run/before.lks now", "8082 opens", refused=True, shows="8082", limit=8
    )
    teller.run("linkspan unpublish shop 8082")
    teller.say("Where does a packet go? Somebody outside asks for the published port:")
    teller.run(
        f"linkspan path outside {HOST}:8080",
        "hop by hop, to the shop's own program",
        shows=r"^DELIVERED: delivered to python3? ",
    )
    teller.say("And the clerk, of another network, who gets no answer: which rule is it?")
    teller.run(
        "linkspan path clerk shop:80",
        "the rule is named, and whose it is",
        refused=True,
        shows=r"NOT DELIVERED: rejected[\s\S]*linkspan's own rule",
    )


def leave(teller: Teller, cast: Cast) -> None:
    """Nothing of it stays."""
    teller.chapter("Nothing is left")
    for name in cast.namespaces:
        run_quietly(f"ip netns pids {name} | xargs -r kill")
    teller.run("linkspan purge --yes", "everything of ours is taken away")
    for name in cast.namespaces:
        run_quietly(f"ip netns delete {name}")
    teller.wait(lambda: not world.programs_running(), "every program ends", 10)
    teller.run(
        "ip -brief link", "the host's own links only", shows=r"^eth0", lacks=r"^(ls|ve|lsp)-?\w"
    )
    teller.run("ip netns list", "no namespace but the outside", shows="^outside", lacks=r"shop|ctr")
    teller.run("nft list ruleset", "an empty firewall", lacks=".")
    teller.run("mount | grep -c linkspan/", "no mounts", refused=True)
    left = world.programs_running()
    teller.claim("no processes", not left, "; ".join(left))


def answers(place: str, url: str) -> bool:
    """Whether a server answers, seen from a place."""
    return run_quietly(f"{place} curl -sf -o /dev/null -m 0.3 {url}").status == 0
