import json,time
def test_it(world):
    t=time.time()
    c=world.customer(); 
    r=world.deliver("customer.created", customer=c); print(r.status_code, r.content)
    i=world.invoice(c)
    with world.counting() as n:
        r=world.deliver("invoice.sent", invoice=i); print(r.status_code, r.content); world.settle()
    print(n)
    with world.counting() as n:
        world.wave.pay(i,"120.00")
        r=world.deliver("invoice.paid", invoice=i); print(r.status_code, r.content); world.settle()
    print(n)
    for j in world.jobs(): print(j)
    s=world.zendesk.state(); s.pop("organization_fields"); [o.pop("fields") for o in s["custom_objects"]]
    print(json.dumps(s,indent=1)); print(json.dumps(world.jira.state(),indent=1))
