"""What travels: messages, their frames, and the values users put into them."""
